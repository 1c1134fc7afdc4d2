//! Machines made of Linux namespaces and cgroups on this host.
