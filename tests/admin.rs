//! The operators' services and `sinterctl` over them, as whoever types the command sees it; and
//! what `sinter-aggregator` does while it is not running.

use std::{fs, path::Path};

use tokio::io::{AsyncBufReadExt as _, BufReader};

#[path = "admin/world.rs"]
mod world;
#[path = "admin/intake.rs"]
mod intake;
#[path = "admin/planning.rs"]
mod planning;

use world::{World, command, sinterctl, vm};

/// Every command that only shows something, and a word of its table.
const SHOWING: &[(&[&str], &str)] = &[
    (&["vms"], "no agent"),
    (&["vm", "show", "web"], "web says so"),
    (&["vm", "show", "web", "--connections", "--processes"], "10.0.0.11"),
    (&["hosts"], "rack one"),
    (&["graph"], "4.50 to 5.50"),
    (&["graph"], "5 min \u{b1} 2 s"),
    (&["graph"], "99.99 %, at least 99.90 %"),
    (&["windows"], "w-2"),
    (&["windows", "latest"], "w-2-r"),
    (&["windows", "w-1"], "w-1-r"),
    (&["windows"], "MISSING"),
    (&["findings"], "it has clients"),
    (&["candidates"], "carry more applications"),
    (&["plans"], "report moves to idle"),
    (&["plan", "show", "p-1"], "- the machine itself"),
    (&["plan", "show", "p-1"], "0.00 in the end; lower bound 0.00"),
    (&["plan", "what-if", "--set", "headroom=0.1"], "cost now"),
    (&["lists"], "GENERATION"),
    (&["lists", "--vm", "web"], "GENERATION"),
    (&["catalogue", "get"], ""),
    (&["scope", "get"], "every machine may be changed"),
    (&["policy", "get"], "window_seconds = 300"),
    (&["tokens", "list"], "USES LEFT"),
    (&["agents", "list"], "a-1"),
    (&["vm", "software", "web"], "web-server"),
    (&["audit"], "TO WHAT"),
    (&["audit", "--verify"], "follow from each other"),
    (&["refusals"], "COUNT"),
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_command_that_shows_something_answers_as_a_table_and_as_json() {
    let world = World::new().await;
    for (words, part) in SHOWING {
        let table = world.ctl(words).await;
        assert_eq!(table.code, 0, "{words:?}: {table:?}");
        assert!(table.out.contains(part), "{words:?}: {table:?}");

        let json = [*words, &["-o", "json"]].concat();
        assert!(world.ctl(&json).await.json().is_object(), "{words:?}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_shows_what_inventory_window_and_agent_say() {
    let world = World::new().await;

    let all = world.ctl(&["vms", "-o", "json"]).await.json();
    let web = world.ctl(&["vm", "show", vm("web").as_str(), "-o", "json"]).await.json();

    let names: Vec<_> =
        all["machines"].as_array().unwrap().iter().map(|m| m["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["idle", "report", "web"]);
    let web = &web["machine"];
    assert_eq!((&web["power"], &web["agent"]), (&"on".into(), &"silent".into()));
    assert_eq!(web["addresses"], serde_json::json!(["10.0.0.11"]));
    assert_eq!(web["cpu_peak_millicores"], 50, "{web:#}");
    assert!(web["memory_peak_bytes"].is_null(), "unknown is not zero");
    assert_eq!(web["applications"][0]["in_mix"], true);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn failures_have_the_codes_that_help_tells() {
    let world = World::new().await;
    for (who, words, code) in [
        ("admin", &["vm", "show", "nobody"][..], 3),
        ("admin", &["vm", "software", "nobody"], 3),
        ("admin", &["plan", "show", "p-9"], 3),
        ("admin", &["plan", "approve", "p-9"], 3),
        ("admin", &["windows", "w-9"], 3),
        ("admin", &["agents", "revoke", "a-9"], 3),
        ("admin", &["tokens", "revoke", "abc"], 3),
        ("viewer", &["plan", "approve", "p-1"], 4),
        ("viewer", &["vm", "sample", "web"], 4),
        ("operator", &["vm", "sample", "web"], 6),
        ("operator", &["tokens", "create", "fleet"], 4),
        ("viewer", &["scope", "out", "web"], 4),
        ("admin", &["policy", "set", "headroom=1.5"], 6),
        ("admin", &["plan", "approve", "p-1", "--basis", "0000"], 6),
        ("admin", &["plan", "rollback", "p-1"], 6),
        ("admin", &["policy", "set", "headroom"], 2),
        ("admin", &["nonsense"], 2),
    ] {
        let told = world.ctl_as(who, words).await;
        assert_eq!(told.code, code, "{who} {words:?}: {told:?}");
        assert!(!told.err.is_empty(), "{who} {words:?}");
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_aggregator_that_is_gone_is_not_reached() {
    let world = World::new().await;
    let place = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(world.context("admin").parent().unwrap()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, place.path().join(path.file_name().unwrap())).unwrap();
    }
    world.close().await;

    let told = sinterctl(&place.path().join("contexts.toml"), &["vms"]).await;

    assert_eq!(told.code, 5, "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_made_again_is_one_change_with_one_answer() {
    let world = World::new().await;
    let create =
        ["tokens", "create", "fleet", "--uses", "100", "--request-id", "r-1", "-o", "json"];

    let first = world.ctl(&create).await.json();
    let again = world.ctl(&create).await.json();
    let other = ["tokens", "create", "others", "--request-id", "r-1"];
    let refused = world.ctl(&other).await;

    assert!(first["secret"].as_str().unwrap().starts_with("sinter-"));
    assert_eq!(first, again);
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.err.contains("used for another request"), "{refused:?}");
    let tokens = world.ctl(&["tokens", "list", "-o", "json"]).await;
    assert_eq!(tokens.json()["tokens"].as_array().unwrap().len(), 1);
    assert!(!tokens.out.contains(first["secret"].as_str().unwrap()), "a secret is shown once");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_secret_that_was_shown_opens_the_door_and_is_kept_nowhere() {
    use sha2::{Digest as _, Sha256};
    let world = World::new().await;

    let told = world.ctl(&["tokens", "create", "fleet", "-o", "json"]).await.json();

    let secret = told["secret"].as_str().unwrap();
    let repository = &world.service.as_ref().unwrap().repository;
    let hash: [u8; 32] = Sha256::digest(secret).into();
    assert_eq!(repository.token(&hash).await.unwrap().unwrap().name, "fleet");
    let request = repository.request("fleet", common::clock::Timestamp::from_millis(0)).await;
    assert_eq!(request.unwrap(), None);
    let store = world.place.path().join("sinter/store/db");
    let bytes = fs::read(store).unwrap();
    assert!(!bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
    world.close().await;
}

/// As a viewer, into either format; what is there already is not written over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn windows_are_exported_as_tables_and_read_again() {
    let world = World::new().await;
    for format in ["csv", "parquet"] {
        let folder = world.place.path().join(format);
        let out = folder.to_str().unwrap();
        let export = ["records", "export", "--last", "2", "--format", format, out];
        let told = world.ctl_as("viewer", &export).await;
        assert_eq!(told.code, 0, "{told:?}");
        assert!(
            told.out.contains("1 windows, 1 machines, 0 applications, 1 edges, 1 records"),
            "{told:?}"
        );
        assert!(folder.join(format!("edges.{format}")).is_file());
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 5, "nothing else is left there");
        let told = world.ctl_as("viewer", &["records", "import", out, "-o", "json"]).await;
        let counts: serde_json::Value = serde_json::from_str(&told.out).unwrap();
        assert_eq!(
            (counts["rows"]["records"].as_u64(), counts["bad_lines"].as_u64()),
            (Some(1), Some(0))
        );
        let again = world.ctl_as("viewer", &export).await;
        assert_eq!(again.code, 1, "{again:?}");
    }
    let edges = fs::read_to_string(world.place.path().join("csv/edges.csv")).unwrap();
    assert!(edges.lines().nth(1).unwrap().contains(",10.0.0.250,"), "{edges}");
    let records = world.place.path().join("csv/records.csv");
    let bad = fs::read_to_string(&records).unwrap().replace(",ok,", ",fine,");
    fs::write(&records, bad).unwrap();
    let told =
        world.ctl(&["records", "import", world.place.path().join("csv").to_str().unwrap()]).await;
    assert_eq!(told.code, 7, "{told:?}");
    assert!(told.err.contains("records.csv, line 2: outcome is \"fine\""), "{told:?}");
    let none = world.place.path().join("none");
    let past = ["records", "export", "--to", "2001-01-01T00:00:00Z", none.to_str().unwrap()];
    let told = world.ctl(&past).await;
    assert!(told.out.contains("0 windows"), "{told:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_checks_everything_and_changes_nothing() {
    let world = World::new().await;
    let catalogue = world.place.path().join("catalogue.toml");
    fs::write(&catalogue, "[report]\nmovable = true\n").unwrap();
    let file = catalogue.to_str().unwrap();
    let shown = |world: &World| {
        let context = world.context("admin");
        async move {
            let mut all = String::new();
            for words in [
                &["policy", "get"][..],
                &["catalogue", "get"],
                &["scope", "get"],
                &["tokens", "list"],
                &["plans"],
                &["agents", "list"],
                &["audit"],
            ] {
                all += &sinterctl(&context, words).await.out;
            }
            all
        }
    };
    let before = shown(&world).await;

    for words in [
        &["policy", "set", "headroom=0.2", "--dry-run"][..],
        &["catalogue", "set", file, "--dry-run"],
        &["scope", "out", "web", "--dry-run"],
        &["scope", "in", "web", "--dry-run"],
        &["tokens", "create", "fleet", "--dry-run"],
        &["plan", "approve", "p-1", "--dry-run"],
        &["plan", "reject", "p-1", "--dry-run"],
        &["plan", "cancel", "p-1", "--dry-run"],
        &["agents", "revoke", "a-1", "--dry-run"],
    ] {
        let told = world.ctl(words).await;
        assert_eq!(told.code, 0, "{words:?}: {told:?}");
    }
    let refused = world.ctl(&["policy", "set", "headroom=2", "--dry-run"]).await;

    assert_eq!(refused.code, 6, "{refused:?}");
    assert_eq!(shown(&world).await, before);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_is_named_with_its_field_and_a_remedy() {
    let world = World::new().await;
    let catalogue = world.place.path().join("catalogue.toml");
    fs::write(&catalogue, "[report]\nmovable = true\nservs = 3\n").unwrap();
    for (words, parts) in [
        (&["policy", "set", "headrom=0.2"][..], &["headrom", "unknown field"][..]),
        (&["policy", "set", "headroom=1.5"], &["headroom", "write a share from 0 to 1"]),
        (&["policy", "set", "approval=never"], &["approval", "`manual` or `automatic`"]),
        (&["catalogue", "set", catalogue.to_str().unwrap()], &["line 3, servs", "unknown field"]),
        (&["tokens", "create", "a b"], &["name", "letters, digits and -_."]),
        (&["plan", "show", "p 1"], &["plan", "letters, digits"]),
    ] {
        let told = world.ctl(words).await;
        assert_eq!(told.code, 6, "{words:?}: {told:?}");
        for part in parts {
            assert!(told.err.contains(part), "{words:?}: {told:?}");
        }
    }
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_counts_and_is_logged_under_its_callers_name() {
    let world = World::new().await;
    let catalogue = world.place.path().join("catalogue.toml");
    fs::write(&catalogue, "[report]\nmovable = true\n").unwrap();
    for (who, words) in [
        ("admin", &["policy", "set", "headroom=0.2"][..]),
        ("admin", &["catalogue", "set", catalogue.to_str().unwrap()]),
        ("operator", &["scope", "out", "web", "--reason", "hands off"]),
        ("operator", &["plan", "reject", "p-1", "--reason", "not now"]),
        ("operator", &["plan", "cancel", "p-2"]),
        ("admin", &["tokens", "create", "fleet"]),
        ("admin", &["agents", "revoke", "a-1"]),
    ] {
        let told = world.ctl_as(who, words).await;
        assert_eq!(told.code, 0, "{words:?}: {told:?}");
    }

    let policy = world.ctl(&["policy", "get"]).await.out;
    assert!(policy.contains("headroom = 0.2"), "{policy}");
    assert!(world.ctl(&["catalogue", "get"]).await.out.contains("[report]"));
    assert!(world.ctl(&["scope", "get"]).await.out.contains("hands off"));
    let plan = world.ctl(&["plan", "show", "p-1", "-o", "json"]).await.json();
    assert_eq!(plan["plan"]["stage"], "rejected");
    assert_eq!(plan["plan"]["course"][0]["text"], "rejected by operator: not now");
    let agents = world.ctl(&["agents", "list", "-o", "json"]).await.json();
    assert_eq!(agents["agents"][0]["state"], "tombstoned");
    let log = world.ctl(&["audit", "-o", "json"]).await.json();
    let rows: Vec<_> = log["entries"].as_array().unwrap().iter().collect();
    let stands = |actor: &str, action: &str, subject: &str| {
        let is = |row: &&&serde_json::Value| {
            row["actor"] == actor && row["action"] == action && row["subject"] == subject
        };
        assert_eq!(rows.iter().filter(is).count(), 1, "{actor} {action} {subject}: {rows:#?}");
    };
    stands("admin", "policy set", "policy");
    stands("admin", "catalogue set", "catalogue");
    stands("operator", "scope set", "web");
    stands("operator", "plan reject", "p-1");
    stands("admin", "token create", "fleet");
    stands("admin", "agent revoke", "a-1");
    assert_eq!(world.ctl(&["audit", "--verify"]).await.code, 0);
    let last = world.ctl(&["audit", "--last", "2", "-o", "json"]).await.json();
    assert_eq!(last["entries"].as_array().unwrap().len(), 2);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_that_name_is_made_once_and_may_be_revoked() {
    let world = World::new().await;
    let made = world.ctl(&["tokens", "create", "fleet", "-o", "json"]).await.json();

    let twice = world.ctl(&["tokens", "create", "fleet"]).await;
    let id = made["token"]["token"].as_str().unwrap();
    let revoked = world.ctl(&["tokens", "revoke", id]).await;
    let anew = world.ctl(&["tokens", "create", "fleet"]).await;

    assert_eq!((twice.code, revoked.code, anew.code), (6, 0, 0), "{twice:?} {revoked:?} {anew:?}");
    let tokens = world.ctl(&["tokens", "list", "-o", "json"]).await.json();
    let revoked = |token: &&serde_json::Value| token["revoked"] == true;
    assert_eq!(tokens["tokens"].as_array().unwrap().iter().filter(revoked).count(), 1);
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_watches_hears_of_a_change_and_stops_with_the_service() {
    let world = World::new().await;
    let mut watching = command("sinterctl")
        .arg("--context-file")
        .arg(world.context("viewer"))
        .args(["watch", "-o", "json"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(watching.stdout.take().unwrap()).lines();

    // Whether it has subscribed is known only by hearing something.
    let mut heard = None;
    for round in 0..50 {
        let value = format!("trial_seconds={}", 60 + round);
        assert_eq!(world.ctl(&["policy", "set", &value]).await.code, 0);
        let wait = std::time::Duration::from_millis(500);
        if let Ok(line) = tokio::time::timeout(wait, lines.next_line()).await {
            heard = line.unwrap();
            break;
        }
    }
    world.close().await;
    let ended = tokio::time::timeout(std::time::Duration::from_secs(20), watching.wait()).await;

    let heard: serde_json::Value = serde_json::from_str(&heard.unwrap()).unwrap();
    assert_eq!(heard["kind"], "settings_changed", "{heard}");
    assert!(ended.is_ok(), "the stream outlived the service");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_lead_through_everything_and_a_wrong_token_is_refused() {
    use common::wire::admin::v1::{
        ListMachinesRequest, ListPlansRequest, fleet_service_client::FleetServiceClient,
        plan_service_client::PlanServiceClient,
    };
    let world = World::new().await;
    let channel = channel(&world.place.path().join("admin")).await;
    let mut fleet = FleetServiceClient::new(channel.clone());
    let mut names = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListMachinesRequest { page_size: 1, page_token: page_token.clone() };
        let page = fleet.list_machines(request).await.unwrap().into_inner();
        assert_eq!(page.machines.len(), 1);
        names.extend(page.machines.into_iter().map(|machine| machine.name));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(names, ["idle", "report", "web"]);

    let mut plans = PlanServiceClient::new(channel);
    let request = ListPlansRequest { page_size: 2, page_token: String::new() };
    let page = plans.list_plans(request).await.unwrap().into_inner();
    let stray = ListMachinesRequest { page_size: 1, page_token: page.next_page_token };
    let refused = fleet.list_machines(stray).await.unwrap_err();
    assert_eq!((page.plans.len(), refused.code()), (2, tonic::Code::InvalidArgument));
    world.close().await;
}

async fn channel(operator: &Path) -> tonic::transport::Channel {
    use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
    let read = |name: &str| fs::read_to_string(operator.join(name)).unwrap();
    let context: toml::Table = read("contexts.toml").parse().unwrap();
    let address = context["context"]["sinter"]["address"].as_str().unwrap().to_owned();
    let tls = ClientTlsConfig::new()
        .domain_name(common::pki::SERVER_NAME)
        .ca_certificate(Certificate::from_pem(read("authority.pem")))
        .identity(Identity::from_pem(read("admin.pem"), read("admin.key")));
    Endpoint::from_shared(address).unwrap().tls_config(tls).unwrap().connect().await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tools_may_ask_what_there_is_and_whether_it_is_well() {
    use tokio_stream::StreamExt as _;
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let world = World::new().await;
    let channel = channel(&world.place.path().join("admin")).await;

    let well = HealthClient::new(channel.clone()).check(HealthCheckRequest::default()).await;
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = ServerReflectionClient::new(channel)
        .server_reflection_info(tokio_stream::once(request))
        .await
        .unwrap()
        .into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response;

    assert_eq!(well.unwrap().into_inner().status, 1);
    let Some(MessageResponse::ListServicesResponse(services)) = answer else {
        panic!("{answer:?}");
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    assert!(names.contains(&"sinter.admin.v1.FleetService".to_owned()), "{names:?}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn further_operators_get_their_certificates_from_the_folder() {
    let world = World::new().await;
    let config = world.place.path().join("aggregator.toml");
    let folder = world.place.path().join("sinter");
    let text = format!(
        "folder = {:?}\n[hypervisor]\nkind = \"namespace\"\n",
        folder.display().to_string()
    );
    fs::write(&config, text).unwrap();
    let known = fs::read_to_string(world.context("admin")).unwrap();
    let known: toml::Table = known.parse().unwrap();
    let address = known["context"]["sinter"]["address"].as_str().unwrap();
    let out = world.place.path().join("ann");

    let made = command("sinter-aggregator")
        .args(["user", "create", "ann", "--role", "operator", "--address", address, "--out"])
        .arg(&out)
        .arg("--config")
        .arg(&config)
        .output()
        .await
        .unwrap();
    let print = command("sinter-aggregator")
        .args(["authority", "fingerprint", "--config"])
        .arg(&config)
        .output()
        .await
        .unwrap();

    assert!(made.status.success(), "{made:?}");
    assert_eq!(String::from_utf8(print.stdout).unwrap().trim().len(), 64);
    let scope = sinterctl(&out.join("contexts.toml"), &["scope", "out", "web"]).await;
    assert_eq!(scope.code, 0, "{scope:?}");
    let log = world.ctl(&["audit", "-o", "json"]).await.json();
    assert_eq!(log["entries"][0]["actor"], "ann");
    world.close().await;
}

#[tokio::test]
async fn the_sample_configuration_is_right() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/samples/aggregator.toml");

    let right =
        command("sinter-aggregator").args(["check-config", "--config"]).arg(&sample).output();
    let right = right.await.unwrap();
    let place = tempfile::tempdir().unwrap();
    let wrong = place.path().join("aggregator.toml");
    fs::write(&wrong, fs::read_to_string(&sample).unwrap().replace("folder", "foldr")).unwrap();
    let refused =
        command("sinter-aggregator").args(["check-config", "--config"]).arg(&wrong).output();
    let refused = refused.await.unwrap();

    assert!(right.status.success(), "{right:?}");
    assert_eq!(refused.status.code(), Some(2));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("foldr"));
}

#[tokio::test]
async fn a_damaged_store_is_salvaged_from_the_command_line() {
    let place = tempfile::tempdir().unwrap();
    let store = place.path().join("store");
    {
        use aggregator::repository::{Change, EmbeddedStore, Store as _, Table};
        let (key, value) = (b"scope".to_vec(), b"all"[..].into());
        let change = Change::Put { table: Table::Settings, key, value };
        EmbeddedStore::open(&store).unwrap().commit(vec![change]).await.unwrap();
    }

    let told = command("sinter-aggregator")
        .args(["store", "salvage"])
        .arg(&store)
        .arg(place.path().join("fresh"))
        .output()
        .await
        .unwrap();

    assert!(told.status.success(), "{told:?}");
    assert!(String::from_utf8(told.stdout).unwrap().contains("holds all that was written"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_for_a_plan_hears_that_it_was_cancelled() {
    let world = World::new().await;
    let basis = "07".repeat(32);
    let approve = ["plan", "approve", "p-3", "--basis", &basis, "--wait"];
    let cancel = async {
        loop {
            let shown = world.ctl(&["plan", "show", "p-3", "-o", "json"]).await.json();
            if shown["plan"]["stage"] == "approved" {
                return world.ctl(&["plan", "cancel", "p-3", "--reason", "thought again"]).await;
            }
        }
    };

    let (waited, cancelled) = tokio::join!(world.ctl(&approve), cancel);

    assert_eq!((waited.code, cancelled.code), (1, 0), "{waited:?} {cancelled:?}");
    assert!(waited.err.contains("ended rolled_back"), "{waited:?}");
    let shown = world.ctl(&["plan", "show", "p-3"]).await.out;
    assert!(shown.contains("turned back: ") && shown.contains("thought again"), "{shown}");
    world.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_of_a_machine_without_an_agent_is_read_without_an_aggregator() {
    let folder = tempfile::tempdir().unwrap();
    let nowhere = folder.path().join("none.toml");
    let of = |text: &str, name: &str| {
        let file = folder.path().join(name);
        std::fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };
    let rows = "TCP hope www.computerhope.com:telnet ESTABLISHED\n\
                TCP hope multicity.com:90 CLOSE_WAIT\n";
    let good = of(rows, "good");
    let some = of(&format!("nonsense\n{rows}"), "some");
    let none = of("nonsense\n", "none");

    let words = ["import", "netstat", good.as_str(), "--vm", "hope", "-o", "csv"];
    let told = sinterctl(&nowhere, &words).await;

    assert_eq!(told.code, 0, "{told:?}");
    let second = told.out.lines().nth(2).unwrap();
    assert_eq!(second, "hope,tcp,hope,,multicity.com,90,CLOSE_WAIT,unknown,no,,,,,,,2");
    let told = sinterctl(&nowhere, &["import", "netstat", &some, "-o", "json"]).await;
    let document: serde_json::Value = serde_json::from_str(&told.out).unwrap();
    assert_eq!((told.code, &document["live"]), (7, &1.into()), "{told:?}");
    assert!(told.err.contains("line 1: nonsense is no protocol"), "{told:?}");
    let told = sinterctl(&nowhere, &["import", "ss", &none]).await;
    assert_eq!(told.code, 8, "{told:?}");
    let told = sinterctl(&nowhere, &["vms", "-o", "csv"]).await;
    assert_eq!(told.code, 2, "{told:?}");
}
