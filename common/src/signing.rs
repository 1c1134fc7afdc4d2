//! Signs and opens configuration lists: Ed25519 over the exact bytes, verified before they are read.
