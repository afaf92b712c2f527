//! The `bpf(2)` calls that aya does not offer: batches, and links that are
//! created without a silent fall-back to netlink.
//!
//! aya's `Xdp::attach` answers EINVAL by attaching through netlink, and such an
//! attachment can neither be pinned nor handed to the next agent.

use std::{
    ffi::{CString, c_long},
    io, mem,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya::Pod;
use aya_obj::generated::{bpf_attach_type, bpf_attr, bpf_cmd};

/// Reads and writes of an element take its `bpf_spin_lock` (`BPF_F_LOCK` in
/// include/uapi/linux/bpf.h).
pub const BPF_F_LOCK: u64 = 4;
/// Attach in front of the others (`BPF_F_BEFORE`); relative to nothing, that
/// is first of all.
pub const BPF_F_BEFORE: u32 = 1 << 3;
/// Attach an XDP program in generic mode (`XDP_FLAGS_SKB_MODE`).
pub const XDP_FLAGS_SKB_MODE: u32 = 1 << 1;
/// Attach an XDP program in native mode (`XDP_FLAGS_DRV_MODE`).
pub const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// All-zero arguments: the kernel takes unused ones to be zero.
fn zeroed() -> bpf_attr {
    // SAFETY: `bpf_attr` is a C union of integers; all-zero bytes are a value.
    unsafe { mem::zeroed() }
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<c_long> {
    // SAFETY: the kernel reads and writes at most the size given, and every
    // pointer inside was set by a caller from a slice that outlives the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command as libc::c_int,
            std::ptr::from_mut(attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(result)
    }
}

fn bpf_fd(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<OwnedFd> {
    let fd = bpf(command, attr)?;
    let fd = RawFd::try_from(fd).map_err(io::Error::other)?;
    // SAFETY: the commands that come here return a new descriptor of ours.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: BorrowedFd<'_>) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

/// What a batched look-up brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Elements written to the front of the buffers.
    pub count: usize,
    /// Nothing follows.
    pub last: bool,
}

/// Where a batched look-up goes on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cursor {
    /// The kernel's token: for hash maps the number of the next bucket.
    token: Option<u64>,
}

/// Reads the next elements of a hash map, with [`BPF_F_LOCK`] in `flags` each
/// under its lock, and moves `cursor` on.
///
/// # Errors
///
/// `ENOSPC` where not even one bucket fits the buffers: the cursor stays, and
/// larger buffers help. Any other error of the kernel.
pub fn lookup_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    cursor: &mut Cursor,
    keys: &mut [K],
    values: &mut [V],
    flags: u64,
) -> io::Result<Batch> {
    let room = keys.len().min(values.len());
    let mut next = 0_u64;
    let mut attr = zeroed();
    attr.batch.in_batch = cursor
        .token
        .as_ref()
        .map_or(0, |token| std::ptr::from_ref(token) as u64);
    attr.batch.out_batch = std::ptr::from_mut(&mut next) as u64;
    attr.batch.keys = keys.as_mut_ptr() as u64;
    attr.batch.values = values.as_mut_ptr() as u64;
    attr.batch.count = u32::try_from(room).unwrap_or(u32::MAX);
    attr.batch.map_fd = raw(map);
    attr.batch.elem_flags = flags;
    let result = bpf(bpf_cmd::BPF_MAP_LOOKUP_BATCH, &mut attr);
    // SAFETY: the command reads and writes the `batch` member.
    let count = unsafe { attr.batch.count } as usize;
    match result {
        Ok(_) => {
            cursor.token = Some(next);
            Ok(Batch { count, last: false })
        }
        // The end of the map; what was found on the way there is delivered.
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => Ok(Batch { count, last: true }),
        Err(error) => Err(error),
    }
}

/// Writes elements of an array or a hash map.
///
/// # Errors
///
/// Any error of the kernel; a part may have been written.
pub fn update_batch<K: Pod, V: Pod>(
    map: BorrowedFd<'_>,
    keys: &[K],
    values: &[V],
) -> io::Result<()> {
    let mut attr = zeroed();
    attr.batch.keys = keys.as_ptr() as u64;
    attr.batch.values = values.as_ptr() as u64;
    attr.batch.count = u32::try_from(keys.len().min(values.len())).map_err(io::Error::other)?;
    attr.batch.map_fd = raw(map);
    bpf(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr).map(drop)
}

/// Attaches `program` to an interface; the attachment lives as long as the
/// descriptor or a pin of it.
///
/// # Errors
///
/// Any error of the kernel.
pub fn link_create(
    program: BorrowedFd<'_>,
    ifindex: u32,
    attach_type: bpf_attach_type,
    flags: u32,
) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = raw(program);
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex;
    attr.link_create.attach_type = attach_type as u32;
    attr.link_create.flags = flags;
    bpf_fd(bpf_cmd::BPF_LINK_CREATE, &mut attr)
}

/// Puts `program` in the place of the link's program, atomically.
///
/// # Errors
///
/// `ENOLINK` where the interface is gone. Any other error of the kernel.
pub fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_update.link_fd = raw(link);
    attr.link_update.__bindgen_anon_1.new_prog_fd = raw(program);
    bpf(bpf_cmd::BPF_LINK_UPDATE, &mut attr).map(drop)
}

/// Detaches at once, whoever else holds the link: closing the last descriptor
/// and removing the pin do so some time later.
///
/// # Errors
///
/// Any error of the kernel.
pub fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = raw(link);
    bpf(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// Pins a map, program or link.
///
/// # Errors
///
/// `EEXIST` where the name is taken. Any other error of the kernel.
pub fn object_pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    attr.__bindgen_anon_4.bpf_fd = raw(object);
    bpf(bpf_cmd::BPF_OBJ_PIN, &mut attr).map(drop)
}

/// Opens what is pinned at `path`.
///
/// # Errors
///
/// Any error of the kernel.
pub fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    bpf_fd(bpf_cmd::BPF_OBJ_GET, &mut attr)
}
