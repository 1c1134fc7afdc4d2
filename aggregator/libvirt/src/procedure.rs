//! The calls we make, each with its number in the protocol and how long an answer may take.

use std::time::Duration;

use crate::frame::{QEMU, REMOTE};

/// For questions and for what the server does at once.
const SOON: Duration = Duration::from_secs(15);
/// For what waits for QEMU or for a guest.
const LATER: Duration = Duration::from_secs(60);
/// For what copies a disk.
const LONG: Duration = Duration::from_secs(3_600);

/// One call of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Procedure {
    pub(crate) program: u32,
    pub(crate) number: u32,
    /// Its name, for errors.
    pub(crate) name: &'static str,
    /// How long its answer is waited for.
    pub(crate) within: Duration,
}

const fn remote(number: u32, name: &'static str, within: Duration) -> Procedure {
    Procedure { program: REMOTE, number, name, within }
}

pub(crate) const CONNECT_OPEN: Procedure = remote(1, "connect_open", SOON);
pub(crate) const NODE_INFO: Procedure = remote(6, "node_get_info", SOON);
pub(crate) const CAPABILITIES: Procedure = remote(7, "connect_get_capabilities", SOON);
pub(crate) const DOMAIN_CREATE: Procedure = remote(9, "domain_create", LATER);
pub(crate) const DOMAIN_DEFINE: Procedure = remote(11, "domain_define_xml", SOON);
pub(crate) const DOMAIN_XML: Procedure = remote(14, "domain_get_xml_desc", SOON);
pub(crate) const DOMAIN_GET_AUTOSTART: Procedure = remote(15, "domain_get_autostart", SOON);
pub(crate) const DOMAIN_BY_UUID: Procedure = remote(24, "domain_lookup_by_uuid", SOON);
pub(crate) const DOMAIN_SET_AUTOSTART: Procedure = remote(29, "domain_set_autostart", SOON);
pub(crate) const NETWORK_CREATE: Procedure = remote(39, "network_create", LATER);
pub(crate) const NETWORK_DEFINE: Procedure = remote(41, "network_define_xml", SOON);
pub(crate) const NETWORK_DESTROY: Procedure = remote(42, "network_destroy", LATER);
pub(crate) const NETWORK_XML: Procedure = remote(43, "network_get_xml_desc", SOON);
pub(crate) const NETWORK_GET_AUTOSTART: Procedure = remote(44, "network_get_autostart", SOON);
pub(crate) const NETWORK_BY_NAME: Procedure = remote(46, "network_lookup_by_name", SOON);
pub(crate) const NETWORK_SET_AUTOSTART: Procedure = remote(48, "network_set_autostart", SOON);
pub(crate) const NETWORK_UNDEFINE: Procedure = remote(49, "network_undefine", SOON);
pub(crate) const HOSTNAME: Procedure = remote(59, "connect_get_hostname", SOON);
pub(crate) const AUTH_LIST: Procedure = remote(66, "auth_list", SOON);
pub(crate) const POOL_REFRESH: Procedure = remote(83, "storage_pool_refresh", LATER);
pub(crate) const POOL_OF_VOLUME: Procedure = remote(86, "storage_pool_lookup_by_volume", SOON);
pub(crate) const POOL_INFO: Procedure = remote(87, "storage_pool_get_info", SOON);
pub(crate) const POOL_XML: Procedure = remote(88, "storage_pool_get_xml_desc", SOON);
pub(crate) const VOLUME_CREATE: Procedure = remote(93, "storage_vol_create_xml", LATER);
pub(crate) const VOLUME_DELETE: Procedure = remote(94, "storage_vol_delete", LATER);
pub(crate) const VOLUME_BY_NAME: Procedure = remote(95, "storage_vol_lookup_by_name", SOON);
pub(crate) const VOLUME_BY_PATH: Procedure = remote(97, "storage_vol_lookup_by_path", SOON);
pub(crate) const VOLUME_INFO: Procedure = remote(98, "storage_vol_get_info", SOON);
pub(crate) const VOLUME_XML: Procedure = remote(99, "storage_vol_get_xml_desc", SOON);
pub(crate) const VOLUME_COPY: Procedure = remote(125, "storage_vol_create_xml_from", LONG);
pub(crate) const DOMAIN_UPDATE_DEVICE: Procedure = remote(174, "domain_update_device_flags", LATER);
pub(crate) const DOMAIN_SNAPSHOT: Procedure = remote(185, "domain_snapshot_create_xml", LATER);
pub(crate) const DOMAIN_SET_VCPUS: Procedure = remote(199, "domain_set_vcpus_flags", LATER);
pub(crate) const DOMAIN_SET_MEMORY: Procedure = remote(204, "domain_set_memory_flags", LATER);
pub(crate) const DOMAIN_STATE: Procedure = remote(212, "domain_get_state", SOON);
pub(crate) const DOMAIN_SET_SCHEDULER: Procedure =
    remote(219, "domain_set_scheduler_parameters_flags", SOON);
pub(crate) const NODE_MEMORY: Procedure = remote(228, "node_get_memory_stats", SOON);
pub(crate) const DOMAIN_UNDEFINE: Procedure = remote(231, "domain_undefine_flags", LATER);
pub(crate) const DOMAIN_DESTROY: Procedure = remote(234, "domain_destroy_flags", LATER);
pub(crate) const BLOCK_JOB_ABORT: Procedure = remote(237, "domain_block_job_abort", LATER);
pub(crate) const BLOCK_JOB_INFO: Procedure = remote(238, "domain_get_block_job_info", SOON);
pub(crate) const DOMAIN_SHUTDOWN: Procedure = remote(258, "domain_shutdown_flags", LATER);
pub(crate) const DOMAIN_SET_METADATA: Procedure = remote(264, "domain_set_metadata", SOON);
pub(crate) const DOMAINS: Procedure = remote(273, "connect_list_all_domains", SOON);
pub(crate) const POOLS: Procedure = remote(281, "connect_list_all_storage_pools", SOON);
pub(crate) const VOLUMES: Procedure = remote(282, "storage_pool_list_all_volumes", SOON);
pub(crate) const NETWORKS: Procedure = remote(283, "connect_list_all_networks", SOON);
pub(crate) const INTERFACES: Procedure = remote(284, "connect_list_all_interfaces", SOON);
pub(crate) const BLOCK_COMMIT: Procedure = remote(290, "domain_block_commit", LATER);
pub(crate) const EVENT_REGISTER: Procedure =
    remote(316, "connect_domain_event_callback_register_any", SOON);
pub(crate) const NETWORK_LEASES: Procedure = remote(341, "network_get_dhcp_leases", SOON);
pub(crate) const DOMAIN_STATS: Procedure = remote(344, "connect_get_all_domain_stats", LATER);
pub(crate) const DOMAIN_ADDRESSES: Procedure = remote(353, "domain_interface_addresses", SOON);
pub(crate) const AGENT_COMMAND: Procedure =
    Procedure { program: QEMU, number: 3, name: "qemu_domain_agent_command", within: LATER };

/// Numbers of what the server sends unasked.
pub(crate) mod event {
    pub(crate) const LIFECYCLE: u32 = 318;
    pub(crate) const IO_ERROR: u32 = 324;
    pub(crate) const AGENT: u32 = 348;
}
