//! An analysis as one page of HTML that needs nothing else: no script, no font, no picture from
//! elsewhere. All that came from a recording is escaped where it is written.

mod graph;
mod periods;
mod plan;
mod profiles;
mod text;

use self::text::escaped;
use super::Analysis;

/// Machines that are listed; a page of more is read by nobody.
const ROWS: usize = 500;

/// The page.
#[must_use]
pub fn page(analysis: &Analysis) -> String {
    let mut page = String::with_capacity(1 << 16);
    let title = escaped(&analysis.source);
    let parts = [
        format!(
            "<!DOCTYPE html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta \
             http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src \
             'unsafe-inline'\"><meta name=\"viewport\" content=\"width=device-width\"><title>Sinter: \
             {title}</title><style>{STYLE}</style></head><body><h1>Sinter: what {title} says</h1>"
        ),
        head(analysis),
        section("Who talks to whom", &graph::drawn(&analysis.findings)),
        section("Periods", &periods::told(&analysis.findings)),
        section("Demand by hour of the day", &profiles::drawn(analysis)),
        section("The plan", &plan::told(analysis)),
        section("Machines", &machines(analysis)),
        section("What could not be read", &bad(analysis)),
    ];
    parts.iter().for_each(|part| page.push_str(part));
    page.push_str("</body></html>\n");
    page
}

fn section(title: &str, text: &str) -> String {
    if text.is_empty() {
        String::new()
    } else {
        format!("<section><h2>{title}</h2>{text}</section>")
    }
}

fn head(analysis: &Analysis) -> String {
    let figures = &analysis.figures;
    let planned = &analysis.planned;
    let candidates =
        analysis.findings.machines.values().filter(|standing| standing.candidate.holds).count();
    let mut text = String::from("<div class=\"figures\">");
    let told = [
        ("windows", figures.windows.to_string()),
        ("machines", figures.machines.to_string()),
        ("applications", figures.applications.to_string()),
        ("edges", figures.edges.to_string()),
        ("candidates", candidates.to_string()),
        ("plans", planned.plans.len().to_string()),
        ("cost now", format!("{:.1}", planned.cost_before)),
        ("cost of the target", format!("{:.1}", planned.cost_of_target)),
        ("no less than", format!("{:.1}", planned.lower_bound)),
        ("seconds to read", format!("{:.2}", figures.read_seconds)),
        ("seconds to infer", format!("{:.2}", figures.infer_seconds)),
        ("seconds to plan", format!("{:.2}", figures.plan_seconds)),
    ];
    for (name, value) in told {
        text.push_str(&format!("<div><b>{value}</b><span>{name}</span></div>"));
    }
    text.push_str("</div>");
    if !analysis.assumed.is_empty() {
        text.push_str(&format!("<p>Read as {}, and assumed:</p><ul>", analysis.format));
        for assumed in &analysis.assumed {
            text.push_str(&format!("<li>{}</li>", escaped(assumed)));
        }
        text.push_str("</ul>");
    }
    text
}

fn machines(analysis: &Analysis) -> String {
    let all = &analysis.findings.machines;
    let mut text = String::from(
        "<table><tr><th>machine</th><th>active</th><th>participating</th><th>trusted</th>\
         <th>candidate</th><th>why, or why not</th></tr>",
    );
    for standing in all.values().take(ROWS) {
        text.push_str(&format!("<tr><td>{}</td>", escaped(&standing.name)));
        let claims =
            [&standing.active, &standing.participating, &standing.trusted, &standing.candidate];
        for claim in claims {
            let word = if claim.holds { "yes" } else { "no" };
            let reason = escaped(&claim.reason);
            text.push_str(&format!("<td class=\"{word}\" title=\"{reason}\">{word}</td>"));
        }
        text.push_str(&format!("<td>{}</td></tr>", escaped(&standing.candidate.reason)));
    }
    text.push_str("</table>");
    text + &text::more(all.len(), ROWS, "machines")
}

fn bad(analysis: &Analysis) -> String {
    if analysis.bad_lines == 0 {
        return String::new();
    }
    let mut text = format!("<p>{} lines.</p><ul>", analysis.bad_lines);
    for bad in &analysis.bad {
        let (file, why) = (escaped(&bad.file), escaped(&bad.why));
        text.push_str(&format!("<li>{file}, line {}: {why}</li>", bad.line));
    }
    text + "</ul>"
}

const STYLE: &str = "body{font:14px/1.45 system-ui,sans-serif;color:#1c2530;background:#fbfbf9;\
margin:2rem auto;max-width:1200px;padding:0 1rem}h1{font-size:1.5rem}h2{font-size:1.15rem;\
border-bottom:1px solid #d8dbd6;padding-bottom:.2rem;margin-top:2.2rem}\
.figures{display:flex;flex-wrap:wrap;gap:.6rem}.figures div{background:#fff;border:1px solid #e0e3de;\
border-radius:6px;padding:.5rem .8rem;min-width:6.5rem}.figures b{display:block;font-size:1.2rem}\
.figures span,.note,text.note{color:#67717c;fill:#67717c}svg{background:#fff;border:1px solid #e0e3de;\
border-radius:6px;max-width:100%;height:auto}table{border-collapse:collapse;width:100%;background:#fff}\
th,td{text-align:left;padding:.25rem .5rem;border-bottom:1px solid #eceeea;vertical-align:top}\
th{color:#67717c;font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
td.yes{color:#17703d}td.no{color:#8a939c}.grid{display:flex;flex-wrap:wrap;gap:.6rem}\
.grid figure{margin:0;width:170px}.grid figcaption{font-size:.75rem;overflow:hidden;\
text-overflow:ellipsis;white-space:nowrap}";
