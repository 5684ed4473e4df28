//! System calls that rustix has no safe names for.

use std::{
    ffi::CStr,
    fs, io,
    os::fd::{FromRawFd, OwnedFd},
};

use rustix::io::Errno;
use rustix::thread::{
    CapabilitiesSecureBits, CapabilitySet, CapabilitySets, UnshareFlags, unshare_unsafe,
};

/// `struct mount_attr`.
#[repr(C)]
struct MountAttr {
    set: u64,
    clear: u64,
    propagation: u64,
    user: u64,
}

/// Flags of mounts (`MOUNT_ATTR_*`).
pub(crate) const READ_ONLY: u64 = 1;
pub(crate) const NO_SET_UID: u64 = 2;
pub(crate) const NO_DEVICES: u64 = 4;
pub(crate) const NO_EXEC: u64 = 8;

const AT_RECURSIVE: libc::c_uint = 0x8000;

/// Kinds of checks that set-user-id programs and user 0 get privileges by, all off and locked.
const SECURE_BITS: CapabilitiesSecureBits = CapabilitiesSecureBits::NO_ROOT
    .union(CapabilitiesSecureBits::NO_ROOT_LOCKED)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP)
    .union(CapabilitiesSecureBits::NO_SETUID_FIXUP_LOCKED)
    .union(CapabilitiesSecureBits::KEEP_CAPS_LOCKED)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE)
    .union(CapabilitiesSecureBits::NO_CAP_AMBIENT_RAISE_LOCKED);

fn done(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// Moves this process, which has one thread, into new namespaces.
pub(crate) fn unshare(flags: UnshareFlags) -> Result<(), Errno> {
    // JUSTIFICATION: rustix deems the call unsafe because descriptors can be unshared with it.
    // SAFETY: only namespaces are.
    unsafe { unshare_unsafe(flags) }
}

/// Adds flags to a mount, and to all below it where `recursive`; takes none away.
pub(crate) fn restrict_mount(path: &CStr, flags: u64, recursive: bool) -> io::Result<()> {
    let attr = MountAttr { set: flags, clear: 0, propagation: 0, user: 0 };
    let at = if recursive { AT_RECURSIVE } else { 0 };
    // JUSTIFICATION: neither libc nor rustix has a function for it (Linux 5.12).
    // SAFETY: reads a string and a structure of the size given, which outlive the call.
    done(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            at,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    })?;
    Ok(())
}

/// Gives up every capability, and every way to get one.
pub(crate) fn drop_capabilities() -> io::Result<()> {
    let mut capability = 0;
    // Those that this kernel does not know any more end the list.
    // JUSTIFICATION: rustix knows some of them only by name; newer ones would be left.
    // SAFETY: plain numbers.
    while unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) } == 0 {
        capability += 1;
    }
    rustix::thread::clear_ambient_capability_set()?;
    // Without CAP_SETPCAP there was nothing to drop, and these cannot be set.
    if capability > 0 {
        rustix::thread::set_capabilities_secure_bits(SECURE_BITS)?;
    }
    let none = CapabilitySet::empty();
    let sets = CapabilitySets { effective: none, permitted: none, inheritable: none };
    rustix::thread::set_capabilities(None, sets)?;
    Ok(())
}

/// Installs a filter. What it says of to ask the host about comes by the descriptor given.
pub(crate) fn install_filter(program: &[libc::sock_filter]) -> io::Result<OwnedFd> {
    let program = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(|_| io::ErrorKind::InvalidInput)?,
        filter: program.as_ptr().cast_mut(),
    };
    let install = |flags: libc::c_ulong| {
        // JUSTIFICATION: no library installs a filter with a listener without the C library's own.
        // SAFETY: the kernel reads the program, which outlives the call, and checks it.
        done(unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                flags,
                &raw const program,
            )
        })
    };
    let listener = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER;
    // Linux 5.19: while the host looks at a call, only what kills interrupts it.
    let fd = match install(listener | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => install(listener),
        done => done,
    }?;
    // JUSTIFICATION: the kernel gives the descriptor as a number.
    // SAFETY: it was just made for us, and nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The version of Landlock the kernel has, 0 if it has none or it is off.
pub(crate) fn landlock_version() -> u32 {
    const VERSION: libc::c_uint = 1;
    let nothing = std::ptr::null::<libc::c_void>();
    // JUSTIFICATION: the landlock crate keeps the version to itself.
    // SAFETY: with this flag the call reads nothing and only tells a number.
    let version =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, nothing, 0usize, VERSION) };
    u32::try_from(version).unwrap_or(0)
}

/// Whether filters can ask the host.
pub(crate) fn has_notifications() -> io::Result<()> {
    let action = libc::SECCOMP_RET_USER_NOTIF;
    // JUSTIFICATION: no library asks for one action.
    // SAFETY: the call reads one number that outlives it.
    done(unsafe {
        libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &raw const action)
    })?;
    Ok(())
}

/// Maps one user and one group to themselves in this process's new user namespace.
pub(crate) fn map_ids(user: u32, group: u32) -> io::Result<()> {
    // Without this the kernel lets nobody without privileges map a group.
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("{user} {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("{group} {group} 1"))
}
