//! The arguments of a process as they may be told: secrets struck out, bounded.
//!
//! What looks like a secret is struck out even if it is none: what was told cannot be taken back. Struck out are
//! the values of options, variables, headers and parameters whose name is that of a secret, the password
//! of an address, the short options of programs known to take a password there, and whatever looks as if it
//! came out of a generator of keys.

mod looks;

/// Most arguments told.
const MOST: usize = 64;
/// Longest argument told, in bytes.
const LONGEST: usize = 256;
/// Longest text looked into word by word; a longer one is told by its length only.
const LONGEST_SEARCHED: usize = 8 << 10;

/// Stands in place of a secret.
const STRUCK: &str = "***";

/// Within a name, these make it that of a secret.
const SECRET_PARTS: [&str; 16] = [
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "passwort",
    "pwd",
    "secret",
    "token",
    "credential",
    "bearer",
    "cookie",
    "apikey",
    "accesskey",
    "authorization",
    "signature",
    "community",
];
/// At the end of a name, these do.
const SECRET_ENDS: [&str; 8] = ["pass", "key", "keys", "auth", "pin", "otp", "salt", "pw"];

/// Programs, by the beginning of their name, with the short option that takes a password.
const SHORT: [(&str, &str); 20] = [
    ("mysql", "-p"),
    ("maria", "-p"),
    ("mycli", "-p"),
    ("mongo", "-p"),
    ("sshpass", "-p"),
    ("7z", "-p"),
    ("redis", "-a"),
    ("ldap", "-w"),
    ("curl", "-u"),
    ("curl", "--user"),
    ("curl", "-U"),
    ("curl", "--proxy-user"),
    ("snmp", "-c"),
    ("snmp", "-A"),
    ("snmp", "-X"),
    ("smbclient", "-U"),
    ("zip", "-P"),
    ("unzip", "-P"),
    ("sqlcmd", "-P"),
    ("ipmitool", "-P"),
];

/// Signs that end one parameter and begin the next.
const BETWEEN: [char; 7] = ['?', '&', ';', ',', '{', '}', '|'];

/// The arguments that the kernel keeps, each ended by a zero, as they may be told.
pub(super) fn told(text: &[u8]) -> Vec<String> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    let arguments: Vec<String> = text
        .split(|byte| *byte == 0)
        .map(|one| String::from_utf8_lossy(one).into_owned())
        .collect();
    let left_out = arguments.len().saturating_sub(MOST);
    let mut told = struck(&arguments);
    told.truncate(MOST);
    for argument in &mut told {
        cut(argument);
    }
    if left_out > 0
        && let Some(last) = told.last_mut()
    {
        *last = format!("… and {} more", left_out + 1);
    }
    told
}

fn cut(argument: &mut String) {
    if argument.len() > LONGEST {
        let mut end = LONGEST - '…'.len_utf8();
        while !argument.is_char_boundary(end) {
            end -= 1;
        }
        argument.truncate(end);
        argument.push('…');
    }
}

/// What the word before says of a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// Nothing.
    Plain,
    /// It is a secret.
    Secret,
    /// It and all that follow in the same text are.
    AllSecret,
}

fn struck(words: &[String]) -> Vec<String> {
    let options = short_options(words);
    let mut next = Next::Plain;
    let mut told = Vec::with_capacity(words.len());
    for word in words {
        let is_secret = next == Next::Secret;
        next = if names_secret(word) || options.contains(&word.as_str()) {
            Next::Secret
        } else {
            Next::Plain
        };
        told.push(if is_secret { STRUCK.to_owned() } else { argument(word, &options) });
    }
    told
}

fn argument(text: &str, options: &[&str]) -> String {
    if text.len() > LONGEST_SEARCHED {
        return format!("{STRUCK} ({} bytes)", text.len());
    }
    // A value with blanks in it: whoever handed it over took the quotes away.
    if let Some(option) = glued(text, options) {
        return format!("{option}{STRUCK}");
    }
    if let Some((name, _)) = text.split_once('=')
        && !name.contains(char::is_whitespace)
        && is_secret_name(last_name(name))
    {
        return format!("{name}={STRUCK}");
    }
    if text.contains(char::is_whitespace) { sentence(text) } else { word(text, options) }
}

/// A text of several words, such as a command for a shell or a header.
fn sentence(text: &str) -> String {
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let options = short_options(&words);
    let mut next = Next::Plain;
    let mut open_quote = None;
    let mut told = Vec::with_capacity(words.len());
    for one in &words {
        if let Some(quote) = open_quote {
            // The rest of a secret that has blanks in it.
            open_quote = (!one.ends_with(quote)).then_some(quote);
            continue;
        }
        let bare = one.trim_start_matches(['"', '\'']);
        match next {
            Next::Plain => {
                let shown = word(one, &options);
                // The quote may begin within the word, as in --password="two words".
                if shown.ends_with(STRUCK) {
                    open_quote = unclosed_quote(one);
                }
                told.push(shown);
            }
            Next::Secret | Next::AllSecret => {
                open_quote = unclosed_quote(one);
                told.push(STRUCK.to_owned());
            }
        }
        if next != Next::AllSecret {
            next = if is_header(bare) {
                Next::AllSecret
            } else if names_secret(bare) || options.contains(&bare) || assigns_nothing(bare) {
                Next::Secret
            } else {
                Next::Plain
            };
        }
    }
    told.join(" ")
}

fn unclosed_quote(word: &str) -> Option<char> {
    ['"', '\''].into_iter().find(|quote| word.matches(*quote).count() % 2 == 1)
}

/// `Authorization:` and the like: what follows is the secret, to the end.
fn is_header(word: &str) -> bool {
    let name = word.trim_end_matches(['"', '\'']).strip_suffix(':');
    name.is_some_and(|name| is_secret_name(last_name(name)))
}

/// `password =` with blanks around the sign.
fn assigns_nothing(word: &str) -> bool {
    word == "=" || word.strip_suffix('=').is_some_and(is_secret_name)
}

/// An option, or a bare name, whose value comes next.
fn names_secret(word: &str) -> bool {
    let has_value = word.contains(['=', '/']);
    !has_value && is_secret_name(word)
}

/// The short option that a text begins with, its value right behind it.
fn glued<'a>(text: &str, options: &[&'a str]) -> Option<&'a str> {
    let is_glued = |option: &&&str| text.len() > option.len() && text.starts_with(**option);
    options.iter().find(is_glued).copied()
}

fn word(text: &str, options: &[&str]) -> String {
    if let Some(option) = glued(text, options) {
        return format!("{option}{STRUCK}");
    }
    let text = without_password(text);
    let mut told = String::with_capacity(text.len());
    for part in text.split_inclusive(BETWEEN) {
        let end = part.trim_end_matches(BETWEEN);
        let shown = parameter(end);
        told.push_str(&shown);
        if shown.ends_with(STRUCK) && end != shown {
            // A secret may have the signs that end it: nothing behind it is told.
            return told;
        }
        told.push_str(&part[end.len()..]);
    }
    told
}

/// `name=value` or `name:value`; anything else is a value.
fn parameter(text: &str) -> String {
    for sign in ['=', ':'] {
        if let Some((name, value)) = text.split_once(sign) {
            if !value.is_empty() && is_secret_name(last_name(name)) {
                return format!("{name}{sign}{STRUCK}");
            }
            if sign == '=' && !value.is_empty() {
                // A value may be a pair itself: -Dx=password=y, or --env NAME=value glued together.
                return format!("{name}={}", parameter(value));
            }
        }
    }
    looks::value(text)
}

/// Strikes the password out of every `user:password@place`, and a user that looks like a key.
fn without_password(text: &str) -> String {
    let mut told = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        let end = after.find(['/', '?', '#', '"', '\'']).unwrap_or(after.len());
        // A password may have the sign that ends it: the last one counts.
        let end = after[end..].find('@').map_or(end, |more| {
            let is_password = after[..end].contains(':') && !after[..end].contains('@');
            if is_password { end + more + 1 } else { end }
        });
        told.push_str(before);
        told.push_str("://");
        told.push_str(&without_credentials(&after[..end]));
        rest = &after[end..];
    }
    if told.is_empty() {
        return without_credentials(rest);
    }
    told.push_str(rest);
    told
}

fn without_credentials(text: &str) -> String {
    let Some((credentials, place)) = text.rsplit_once('@') else { return text.to_owned() };
    match credentials.split_once(':') {
        Some((user, password)) if !password.is_empty() => format!("{user}:{STRUCK}@{place}"),
        _ => text.to_owned(),
    }
}

/// The name right before the sign: of `"{"user":"x","password` it is `password`.
fn last_name(text: &str) -> &str {
    text.trim_end_matches(['"', '\'', ' ']).rsplit(['"', '\'', ' ']).next().unwrap_or(text)
}

fn is_secret_name(name: &str) -> bool {
    let mut plain = name.to_ascii_lowercase();
    plain.retain(|sign| sign.is_ascii_alphanumeric());
    let is_secret = SECRET_PARTS.iter().any(|part| plain.contains(part));
    is_secret || SECRET_ENDS.iter().any(|end| plain.ends_with(end))
}

/// The short options that take a password, of every program that the words name: one may start another.
fn short_options(words: &[String]) -> Vec<&'static str> {
    let programs: Vec<&str> =
        words.iter().filter_map(|word| word.trim_matches(['"', '\'']).rsplit('/').next()).collect();
    let known =
        SHORT.iter().filter(|(name, _)| programs.iter().any(|program| program.starts_with(name)));
    known.map(|(_, option)| *option).collect()
}

#[cfg(test)]
mod tests;
