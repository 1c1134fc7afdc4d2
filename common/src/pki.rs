//! Certificates: the authority, what it issues, and who a certificate speaks for.
