//! Every way of handing a secret over that we know of, each with a secret that must not be found again.

use super::*;

/// What must never be told.
const SECRET: &str = "hunter2-Tr0ub4dor";

/// The ways, with the place of the secret.
const GOLDEN: [&[&str]; 52] = [
    &["app", "--password=SECRET"],
    &["app", "--password", "SECRET"],
    &["app", "--db-password=SECRET", "--port=80"],
    &["app", "--DbPassword=SECRET"],
    &["app", "-password", "SECRET"],
    &["app", "--token=SECRET"],
    &["app", "--token", "SECRET"],
    &["app", "--secret", "SECRET"],
    &["app", "--client-secret=SECRET"],
    &["app", "--api-key=SECRET"],
    &["app", "--api_key", "SECRET"],
    &["app", "--key", "SECRET"],
    &["app", "--admin-pass", "SECRET"],
    &["app", "--use-token", "--password", "SECRET"],
    &["app", "PASSWORD=SECRET"],
    &["env", "DB_PASSWORD=SECRET", "AWS_§_ACCESS_KEY=SECRET", "app"],
    &["docker", "run", "-e", "MYSQL_ROOT_PASSWORD=SECRET", "mysql"],
    &["java", "-Dspring.datasource.password=SECRET", "-jar", "app.jar"],
    &["java", "-Djavax.net.ssl.keyStorePassword=SECRET"],
    &["mysql", "-uroot", "-pSECRET"],
    &["/usr/bin/mysqldump", "-pSECRET", "shop"],
    &["mariadb", "-p", "SECRET"],
    &["python3", "/usr/bin/mycli", "-pSECRET"],
    &["sshpass", "-p", "SECRET", "ssh", "host"],
    &["redis-cli", "-a", "SECRET"],
    &["ldapsearch", "-w", "SECRET"],
    &["curl", "-u", "me:SECRET", "http://x"],
    &["curl", "-H", "Authorization: Bearer SECRET"],
    &["curl", "-H", "X-Api-Key:SECRET"],
    &["curl", "-d", "{\"user\":\"me\",\"password\":\"SECRET\"}"],
    &["curl", "-d", "{\"user\": \"me\", \"password\": \"SECRET\"}"],
    &["curl", "https://me:SECRET@host/path"],
    &["curl", "https://host/path?user=me&access_token=SECRET&x=1"],
    &["app", "--database", "postgres://me:SECRET@db:5432/shop?sslmode=off"],
    &["app", "postgres://me:SECRET/x@db/shop"],
    &["app", "--dsn", "me:SECRET@tcp(db:3306)/shop"],
    &["app", "host=db user=me password=SECRET dbname=shop"],
    &["sh", "-c", "mysql -uroot -pSECRET shop"],
    &["sh", "-c", "app --password 'one SECRET two' && app --token=\"SECRET SECRET\" --x"],
    &["app", "--set", "global.password=SECRET,replicas=3"],
    &["app", "--password=a,SECRET"],
    &["app", "--password=one SECRET two"],
    &["mysql", "-pone SECRET two"],
    &["plink", "-pw", "SECRET"],
    &["curl", "--user", "me:SECRET", "http://x"],
    &["snmpwalk", "-v2c", "-c", "SECRET", "host"],
    &["app", "--password:SECRET"],
    &["openssl", "rsa", "-passin", "pass:SECRET"],
    &["mount.cifs", "-o", "username=me,password=SECRET"],
    &["redis-server", "--requirepass", "SECRET"],
    &["app", "--password=a&b?c;SECRET"],
    &["sh", "-c", "cd /srv && sudo -u me mysql -pSECRET"],
];

fn of(words: &[&str]) -> Vec<String> {
    let mut text = words.join("\0");
    text.push('\0');
    told(text.as_bytes())
}

#[test]
fn no_secret_leaves_the_host() {
    for words in GOLDEN {
        let words: Vec<String> = words
            .iter()
            .map(|word| word.replace("SECRET", SECRET).replace('§', "SECRET"))
            .collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let told = of(&words).join(" ");
        assert!(!told.contains("hunter2") && !told.contains("Tr0ub"), "{words:?} became {told}");
        assert!(told.contains(STRUCK), "{words:?} became {told}");
    }
}

#[test]
fn keys_are_known_by_their_looks() {
    for key in [
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "AKIAIOSFODNN7EXAMPLEa",
        "ghp_16C7e42F292c6912E7710c838347Ae178B4a",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U",
        "123e4567-e89b-12d3-a456-426614174000",
        "nXbQvRkTzLpWmYdHcJfGsAeUiOxBqNtV",
    ] {
        let as_option = format!("--id={key}");
        // Within an address a slash of a key would be written in another way.
        let as_user = format!("https://{}@host/", key.replace('/', "%2F"));
        for word in [key, &as_option, &as_user] {
            let told = of(&["app", word]).join(" ");
            assert!(!told.contains(key), "{told}");
            assert!(!key.split('.').any(|part| told.contains(part)), "{told}");
        }
    }
}

#[test]
fn what_is_no_secret_stays_readable() {
    for plain in [
        "/usr/lib/jvm/java-17-openjdk-amd64/bin/java",
        "--config=/etc/app/production.conf",
        "-Xmx2g",
        "org.apache.catalina.startup.Bootstrap",
        "--listen=0.0.0.0:8080",
        "http://example.org:8080/a?page=2",
        "user@example.org",
        "--worker-connections=1024",
        "-p8080",
        "--proxy-buffering-is-enabled-everywhere",
    ] {
        assert_eq!(of(&["app", plain]), ["app", plain]);
    }
}

#[test]
fn much_is_cut_and_says_so() {
    let many: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let told = of(&many);
    assert_eq!((told.len(), told[MOST - 1].as_str()), (MOST, "… and 37 more"));

    let told = of(&["app", &"ä".repeat(300), &"x y ".repeat(10_000)]);
    assert!(told.iter().all(|one| one.len() <= LONGEST), "{told:?}");
    assert!(told[1].ends_with('…'));
}

#[test]
fn no_arguments_and_no_text_are_no_trouble() {
    assert!(told(b"").is_empty());
    assert_eq!(told(b"a\0\0b\0"), ["a", "", "b"]);
    assert_eq!(told(&[0xff, 0]), ["\u{fffd}"]);
}
