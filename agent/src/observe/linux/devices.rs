//! The block devices with what joins them to a volume outside, and storage that comes over the network.
//!
//! Everything is read from small files of the kernel: no device is opened, no server asked. Partitions,
//! mappings, loops and memory are left out, for they are made of the others.

use std::{fs, net::IpAddr, path::Path};

use common::{
    sample::{BlockDevice, RemoteStorage},
    units::Bytes,
};

use super::mounts::Mount;

/// Most devices, and most places of storage, told.
const MOST: usize = 512;
/// Longest value taken.
const LONGEST: usize = 256;
/// Bytes of a sector in /sys/block, whatever the device's own are.
const SECTOR: u64 = 512;
/// Bytes before the serial in a page of a SCSI device's vital product data.
const PAGE_HEADER: usize = 4;

/// Whether a name of /sys/block is that of a device that is real.
pub(in crate::observe) fn is_real(sys: &Path, name: &str) -> bool {
    sys.join("block").join(name).join("device").exists()
}

/// The block devices below `sys`, which is /sys but in tests.
pub(in crate::observe) fn block(sys: &Path) -> Vec<BlockDevice> {
    let names = names(&sys.join("block"));
    names
        .iter()
        .filter(|name| is_real(sys, name))
        .take(MOST)
        .map(|name| device(sys, name))
        .collect()
}

/// What is mounted over the network or lent by the host, and the block devices that come over iSCSI.
pub(in crate::observe) fn remote(mounts: &[Mount], sys: &Path) -> Vec<RemoteStorage> {
    let mut found: Vec<RemoteStorage> = mounts.iter().filter_map(mounted).collect();
    found
        .extend(names(&sys.join("class/iscsi_session")).iter().flat_map(|name| session(sys, name)));
    found.sort_by(|a, b| (&a.place, &a.kind, &a.source).cmp(&(&b.place, &b.kind, &b.source)));
    found.dedup();
    found.truncate(MOST);
    found
}

fn device(sys: &Path, name: &str) -> BlockDevice {
    let folder = sys.join("block").join(name);
    let of = |file: &str| text(&folder.join(file));
    let sectors = of("size").and_then(|size| size.parse::<u64>().ok()).unwrap_or(0);
    let serial = of("serial")
        .or_else(|| of("device/serial"))
        .or_else(|| page(&folder.join("device/vpd_pg80")));
    BlockDevice {
        name: name.to_owned(),
        size: Bytes(sectors.saturating_mul(SECTOR)),
        serial,
        wwn: of("wwid").or_else(|| of("device/wwid")),
        model: of("device/model"),
        bus: fs::canonicalize(&folder).ok().and_then(|path| bus(&path)),
        rotational: of("queue/rotational").and_then(|spins| match spins.as_str() {
            "0" => Some(false),
            "1" => Some(true),
            _ => None,
        }),
    }
}

/// The last address of a PCI device on the way to the device, or what stands before the block device itself.
fn bus(path: &Path) -> Option<String> {
    let parts: Vec<&str> = path.iter().filter_map(|part| part.to_str()).collect();
    let pci = parts.iter().rev().find(|part| is_pci(part));
    let before =
        parts.iter().position(|part| *part == "block").and_then(|at| parts.get(at.checked_sub(1)?));
    pci.or(before).map(|part| (*part).to_owned())
}

/// `0000:00:05.0`: domain, bus, device, function.
fn is_pci(part: &str) -> bool {
    let sizes = part.split([':', '.']).map(str::len);
    let is_hex = part.chars().all(|sign| sign.is_ascii_hexdigit() || sign == ':' || sign == '.');
    is_hex && sizes.eq([4, 2, 2, 1]) && part.as_bytes().get(10) == Some(&b'.')
}

fn mounted(mount: &Mount) -> Option<RemoteStorage> {
    let address = || mount.option("addr").and_then(address);
    let (server, source, address) = match mount.kind.as_str() {
        "nfs" | "nfs4" | "fuse.glusterfs" | "fuse.sshfs" | "afs" | "lustre" => {
            let (server, source) = server_and_path(&mount.source)?;
            (server, source, address())
        }
        "cifs" | "smb3" | "smbfs" => {
            let share = mount.source.trim_start_matches(['/', '\\']);
            let (server, source) = share.split_once(['/', '\\'])?;
            (server.to_owned(), source.to_owned(), address())
        }
        "ceph" => ceph(mount)?,
        "9p" if mount.option("trans") == Some("tcp") => (mount.source.clone(), String::new(), None),
        // Lent by whoever runs this machine: there is no other server than the host.
        "9p" | "virtiofs" => (String::new(), mount.source.clone(), None),
        _ => return None,
    };
    let known = address.or_else(|| self::address(server.trim_matches(['[', ']'])));
    let place = mount.point.clone();
    Some(RemoteStorage { kind: mount.kind.clone(), server, address: known, source, place })
}

/// `server:/path`; a server's IPv6 address stands in brackets.
fn server_and_path(source: &str) -> Option<(String, String)> {
    let at = match source.find("]:") {
        Some(bracket) => bracket + 1,
        None => source.find(':')?,
    };
    let server = source[..at].rsplit('@').next()?;
    Some((server.to_owned(), source[at + 1..].to_owned()))
}

/// Old: `monitor,monitor:/path`. New: `user@cluster.name=/path`, with the monitors among the options.
fn ceph(mount: &Mount) -> Option<(String, String, Option<IpAddr>)> {
    let (servers, path) = match mount.source.split_once('=') {
        Some((_, path)) => (mount.option("mon_addr")?.to_owned(), path),
        None => {
            let at = mount.source.rfind(":/")?;
            (mount.source[..at].to_owned(), &mount.source[at + 1..])
        }
    };
    let first = servers.split([',', '/']).next()?;
    let address = first.parse().map(|socket: std::net::SocketAddr| socket.ip()).ok();
    Some((servers.clone(), path.to_owned(), address.or_else(|| self::address(first))))
}

fn address(text: &str) -> Option<IpAddr> {
    text.parse().ok()
}

/// One iSCSI session: its target, where it is, and every block device that came of it.
fn session(sys: &Path, name: &str) -> Vec<RemoteStorage> {
    let folder = sys.join("class/iscsi_session").join(name);
    let Some(source) = text(&folder.join("targetname")) else { return Vec::new() };
    let number = name.trim_start_matches("session");
    let connections = sys.join("class/iscsi_connection");
    let own = format!("connection{number}:");
    let connection = names(&connections).into_iter().find(|name| name.starts_with(&own));
    let server =
        connection.and_then(|name| text(&connections.join(name).join("persistent_address")));
    let server = server.unwrap_or_default();
    let one = |place: String| RemoteStorage {
        kind: "iscsi".to_owned(),
        address: address(&server),
        server: server.clone(),
        source: source.clone(),
        place,
    };
    let disks = disks_of(&folder.join("device"));
    if disks.is_empty() { vec![one(String::new())] } else { disks.into_iter().map(one).collect() }
}

/// The block devices of a session: `target…/…/block/NAME` below its own folder.
fn disks_of(session: &Path) -> Vec<String> {
    let mut disks = Vec::new();
    for target in names(session).iter().filter(|name| name.starts_with("target")) {
        let target = session.join(target);
        for unit in names(&target) {
            disks.extend(names(&target.join(unit).join("block")));
        }
    }
    disks
}

/// The names in a folder, ascending; none if it is not there.
fn names(folder: &Path) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let named = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut names: Vec<String> = named.take(4 * MOST).collect();
    names.sort();
    names
}

/// A file of one line; `None` if there is none or it is empty.
fn text(path: &Path) -> Option<String> {
    plain(&fs::read(path).ok()?)
}

/// The serial in a page of vital product data.
fn page(path: &Path) -> Option<String> {
    plain(fs::read(path).ok()?.get(PAGE_HEADER..)?)
}

fn plain(bytes: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?.trim_matches(['\0', ' ', '\n']);
    let is_plain = !text.is_empty() && text.len() <= LONGEST && !text.contains(char::is_control);
    is_plain.then(|| text.split_whitespace().collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::observe::linux::mounts;

    /// Writes files below a folder.
    fn tree(files: &[(&str, &[u8])]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, bytes) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        root
    }

    fn link(sys: &Path, name: &str, to: &str) {
        fs::create_dir_all(sys.join(name).parent().unwrap()).unwrap();
        symlink(sys.join(to), sys.join(name)).unwrap();
    }

    #[test]
    fn virtio_scsi_and_nvme_devices_come_with_what_names_them() {
        let virtio = "devices/pci0000:00/0000:00:05.0/virtio2/block/vda";
        let scsi = "devices/pci0000:00/0000:00:07.0/host2/target2:0:0/2:0:0:1/block/sda";
        let nvme = "devices/pci0000:00/0000:01:00.0/nvme/nvme0/nvme0n1";
        let root = tree(&[
            (&format!("{virtio}/size"), b"2048\n"),
            (&format!("{virtio}/serial"), b"vol-7\n"),
            (&format!("{virtio}/queue/rotational"), b"1\n"),
            (&format!("{virtio}/device/x"), b""),
            (&format!("{scsi}/size"), b"4096\n"),
            (&format!("{scsi}/device/vpd_pg80"), b"\x00\x80\x00\x08S1E R1AL"),
            (&format!("{scsi}/device/wwid"), b"naa.6001405\n"),
            (&format!("{scsi}/device/model"), b"QEMU HARDDISK   \n"),
            (&format!("{nvme}/wwid"), b"eui.0025\n"),
            (&format!("{nvme}/device/serial"), b"S4EV      \n"),
            (&format!("{nvme}/queue/rotational"), b"0\n"),
            ("devices/virtual/block/dm-0/size", b"1\n"),
        ]);
        for (name, to) in [
            ("vda", virtio),
            ("sda", scsi),
            ("nvme0n1", nvme),
            ("dm-0", "devices/virtual/block/dm-0"),
        ] {
            link(root.path(), &format!("block/{name}"), to);
        }

        let [nvme, scsi, virtio] = &block(root.path())[..] else { panic!("not three") };

        let text = |text: &str| Some(text.to_owned());
        assert_eq!((virtio.name.as_str(), virtio.size), ("vda", Bytes(1 << 20)));
        assert_eq!((&virtio.serial, virtio.rotational), (&text("vol-7"), Some(true)));
        assert_eq!(virtio.bus, text("0000:00:05.0"));
        assert_eq!((&scsi.serial, &scsi.wwn), (&text("S1E R1AL"), &text("naa.6001405")));
        assert_eq!((&scsi.model, scsi.rotational), (&text("QEMU HARDDISK"), None));
        assert_eq!((&nvme.serial, &nvme.wwn), (&text("S4EV"), &text("eui.0025")));
        assert_eq!((nvme.size, nvme.rotational), (Bytes(0), Some(false)));
    }

    #[test]
    fn network_file_systems_come_with_server_source_and_address() {
        let text = "\
            1 0 0:1 / /a rw - nfs4 nas.example:/export/a rw,vers=4.2,clientaddr=10.0.0.2,addr=10.0.0.9\n\
            2 0 0:2 / /b rw - nfs [fe80::1]:/b rw,addr=fe80::1\n\
            3 0 0:3 / /c rw - cifs //files.example/team rw,username=me,addr=10.0.0.8\n\
            4 0 0:4 / /d rw - 9p shared rw,trans=virtio\n\
            5 0 0:5 / /e rw - ceph 10.0.0.3:6789,10.0.0.4:6789:/vol rw,name=admin\n\
            6 0 0:6 / /f rw - ceph admin@f00d.fs=/x rw,mon_addr=10.0.0.5:6789/10.0.0.6:6789\n\
            7 0 0:7 / /g rw - fuse.sshfs me@host.example:/home rw\n\
            8 0 0:8 / / rw - ext4 /dev/vda1 rw\n\
            9 0 0:9 / /h rw - nfs nonsense rw\n";
        let found = remote(&mounts::parse(text), Path::new("/nowhere"));

        let row = |one: &RemoteStorage| {
            let address = one.address.map(|address| address.to_string()).unwrap_or_default();
            [one.place.clone(), one.kind.clone(), one.server.clone(), one.source.clone(), address]
                .join(" ")
        };
        let rows: Vec<String> = found.iter().map(row).collect();
        assert_eq!(
            rows,
            [
                "/a nfs4 nas.example /export/a 10.0.0.9",
                "/b nfs [fe80::1] /b fe80::1",
                "/c cifs files.example team 10.0.0.8",
                "/d 9p  shared ",
                "/e ceph 10.0.0.3:6789,10.0.0.4:6789 /vol 10.0.0.3",
                "/f ceph 10.0.0.5:6789/10.0.0.6:6789 /x 10.0.0.5",
                "/g fuse.sshfs host.example /home ",
            ]
        );
    }

    #[test]
    fn an_iscsi_session_comes_with_target_address_and_block_device() {
        let session = "devices/platform/host2/session1";
        let root = tree(&[
            (
                &format!("{session}/iscsi_session/session1/targetname"),
                b"iqn.2026-01.example:vol1\n",
            ),
            (&format!("{session}/target2:0:0/2:0:0:1/block/sdb/size"), b"1\n"),
            ("class/iscsi_connection/connection1:0/persistent_address", b"10.0.0.20\n"),
        ]);
        link(
            root.path(),
            "class/iscsi_session/session1",
            &format!("{session}/iscsi_session/session1"),
        );
        link(root.path(), &format!("{session}/iscsi_session/session1/device"), session);

        let found = remote(&[], root.path());

        let wanted = RemoteStorage {
            kind: "iscsi".into(),
            server: "10.0.0.20".into(),
            address: Some([10, 0, 0, 20].into()),
            source: "iqn.2026-01.example:vol1".into(),
            place: "sdb".into(),
        };
        assert_eq!(found, [wanted]);
    }
}
