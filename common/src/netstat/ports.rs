//! Names of ports that the programs print without `-n`: those that every system's list of services
//! has in common. A name that is not here is told as such, not guessed.

/// By name, ascending.
const NAMED: [(&str, u16); 62] = [
    ("bgp", 179),
    ("bootpc", 68),
    ("bootps", 67),
    ("chargen", 19),
    ("daytime", 13),
    ("discard", 9),
    ("domain", 53),
    ("echo", 7),
    ("epmap", 135),
    ("finger", 79),
    ("ftp", 21),
    ("ftp-data", 20),
    ("gopher", 70),
    ("http", 80),
    ("http-alt", 8080),
    ("https", 443),
    ("imap", 143),
    ("imap2", 143),
    ("imaps", 993),
    ("ipp", 631),
    ("isakmp", 500),
    ("iscsi-target", 3260),
    ("kerberos", 88),
    ("ldap", 389),
    ("ldaps", 636),
    ("mdns", 5353),
    ("microsoft-ds", 445),
    ("ms-sql-s", 1433),
    ("ms-wbt-server", 3389),
    ("mysql", 3306),
    ("netbios-dgm", 138),
    ("netbios-ns", 137),
    ("netbios-ssn", 139),
    ("nfs", 2049),
    ("nfsd", 2049),
    ("nntp", 119),
    ("ntp", 123),
    ("pop3", 110),
    ("pop3s", 995),
    ("postgresql", 5432),
    ("printer", 515),
    ("rsync", 873),
    ("rtsp", 554),
    ("sftp", 115),
    ("shell", 514),
    ("sip", 5060),
    ("smtp", 25),
    ("smtps", 465),
    ("snmp", 161),
    ("snmp-trap", 162),
    ("snmptrap", 162),
    ("ssdp", 1900),
    ("ssh", 22),
    ("submission", 587),
    ("sunrpc", 111),
    ("syslog", 514),
    ("telnet", 23),
    ("telnets", 992),
    ("tftp", 69),
    ("time", 37),
    ("whois", 43),
    ("xmpp-client", 5222),
];

/// The port of that name.
pub(super) fn named(name: &str) -> Option<u16> {
    let name = name.to_ascii_lowercase();
    let place = NAMED.binary_search_by(|(known, _)| (*known).cmp(name.as_str())).ok()?;
    NAMED.get(place).map(|(_, port)| *port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_found() {
        for (name, port) in NAMED {
            assert_eq!(named(name), Some(port), "{name}");
        }
        assert_eq!((named("Telnet"), named("nonsense")), (Some(23), None));
    }
}
