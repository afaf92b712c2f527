//! What the running kernel must offer, checked before anything is touched.

use std::{fmt, fs, path::Path};

use anyhow::{Context as _, Result, bail};

/// Type information of the running kernel.
const KERNEL_BTF: &str = "/sys/kernel/btf/vmlinux";

/// A kernel version, as far as features need it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kernel {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Something that came with a kernel version.
struct Feature {
    name: &'static str,
    since: Kernel,
}

const fn since(major: u32, minor: u32, name: &'static str) -> Feature {
    Feature {
        name,
        since: Kernel { major, minor },
    }
}

/// Without these nothing works.
const NEEDED: [Feature; 8] = [
    since(5, 1, "spin locks in hash map values"),
    since(5, 6, "batched reads of hash maps"),
    since(5, 8, "BPF ring buffers"),
    since(5, 9, "BPF links for XDP, and detaching by them"),
    since(5, 11, "the coarse clock (bpf_ktime_get_coarse_ns)"),
    since(5, 12, "atomic instructions that return the old value"),
    since(5, 16, "the verifier's account of a program"),
    since(5, 18, "XDP on multi-buffer frames (xdp.frags)"),
];

/// Attaching at egress by a link that outlives the agent.
const TCX: Feature = since(6, 6, "TCX");

impl Kernel {
    /// The running kernel.
    ///
    /// # Errors
    ///
    /// uname(2) fails, or names a release that does not begin with a version.
    pub fn running() -> Result<Self> {
        let uname = nix::sys::utsname::uname().context("cannot ask for the kernel's version")?;
        let release = uname.release().to_string_lossy();
        Self::parse(&release)
            .with_context(|| format!("the kernel's release `{release}` begins with no version"))
    }

    fn parse(release: &str) -> Option<Self> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        Some(Self {
            major: numbers.next()?.parse().ok()?,
            minor: numbers.next()?.parse().ok()?,
        })
    }

    /// Whether programs can be attached at egress through TCX. Without it they
    /// hang on a clsact qdisc, and cannot outlive the agent.
    #[must_use]
    pub fn has_tcx(self) -> bool {
        self >= TCX.since
    }

    /// Names what this kernel lacks and cannot do without, newest last.
    fn lacks(self) -> Vec<String> {
        NEEDED
            .iter()
            .filter(|feature| self < feature.since)
            .map(|feature| format!("{} (since {})", feature.name, feature.since))
            .collect()
    }
}

/// Checks that the programs can run here, and says what is missing else.
///
/// # Errors
///
/// The kernel lacks a feature, offers no BTF, or this process may not load
/// programs.
pub fn check() -> Result<Kernel> {
    let kernel = Kernel::running()?;
    let lacks = kernel.lacks();
    if !lacks.is_empty() {
        bail!(
            "this kernel ({kernel}) is too old for the tracker; it lacks {}. Nothing can be tracked \
             on it; `tracker list` and `tracker stats` would find no maps either. Linux 5.18 is \
             enough, 6.6 offers everything",
            lacks.join(", ")
        );
    }
    let status = fs::read_to_string("/proc/thread-self/status")
        .context("cannot read /proc/thread-self/status, which tells this process's capabilities")?;
    let missing = missing_capabilities(effective_capabilities(&status).unwrap_or(0));
    if !missing.is_empty() {
        bail!(
            "loading and attaching eBPF programs needs root, or the capabilities {}; this process \
             lacks them. Run it with sudo",
            missing.join(", ")
        );
    }
    if !Path::new(KERNEL_BTF).exists() {
        bail!(
            "the kernel offers no type information at {KERNEL_BTF}, and without it the flow \
             tables cannot hold locks; it needs CONFIG_DEBUG_INFO_BTF=y, which the kernels of Debian \
             11, Ubuntu 20.10, Fedora 31, RHEL 8.2 and later have, and a mounted /sys"
        );
    }
    Ok(kernel)
}

/// The `CapEff` line of /proc/PID/status, as bits.
fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

/// Which capabilities (include/uapi/linux/capability.h) are missing to load the
/// programs and to attach them.
fn missing_capabilities(effective: u64) -> Vec<&'static str> {
    const NET_ADMIN: u32 = 12;
    const SYS_ADMIN: u32 = 21;
    const PERFMON: u32 = 38;
    const BPF: u32 = 39;
    let has = |capability: u32| effective >> capability & 1 == 1;
    let mut missing = Vec::new();
    // CAP_SYS_ADMIN stands in for the two that were split off it.
    if !has(SYS_ADMIN) {
        for (capability, name) in [(BPF, "CAP_BPF"), (PERFMON, "CAP_PERFMON")] {
            if !has(capability) {
                missing.push(name);
            }
        }
    }
    if !has(NET_ADMIN) {
        missing.push("CAP_NET_ADMIN");
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn kernel(major: u32, minor: u32) -> Kernel {
        Kernel { major, minor }
    }

    #[test]
    fn releases_of_distributions_are_understood() {
        for (release, expected) in [
            ("6.18.44-fc-v669", Some(kernel(6, 18))),
            ("5.15.0-1052-aws", Some(kernel(5, 15))),
            ("6.1-rc3", Some(kernel(6, 1))),
            ("7.0", Some(kernel(7, 0))),
            ("6", None),
            ("linux", None),
        ] {
            assert_eq!(Kernel::parse(release), expected, "{release}");
        }
    }

    #[test]
    fn an_old_kernel_lacks_what_came_later_and_nothing_else() {
        let lacks = kernel(5, 10).lacks();
        assert_eq!(lacks.len(), 4, "{lacks:?}");
        assert!(lacks[0].contains("coarse clock"));
        assert!(lacks.iter().any(|line| line.ends_with("(since 5.18)")));
        assert!(kernel(5, 18).lacks().is_empty());
        assert!(!kernel(6, 5).has_tcx() && kernel(6, 6).has_tcx() && kernel(7, 0).has_tcx());
    }

    #[test]
    fn capabilities_are_read_from_the_effective_set() {
        let status = "CapPrm:\t000001ffffffffff\nCapEff:\t0000000000001000\nCapBnd:\t0\n";
        assert_eq!(effective_capabilities(status), Some(0x1000));
        assert_eq!(effective_capabilities("Name:\tx\n"), None);
    }

    #[test]
    fn the_old_capability_stands_in_for_the_new_ones() {
        assert_eq!(missing_capabilities(1 << 12 | 1 << 21), Vec::<&str>::new());
        assert_eq!(
            missing_capabilities(1 << 12 | 1 << 38 | 1 << 39),
            Vec::<&str>::new()
        );
        assert_eq!(missing_capabilities(1 << 21), ["CAP_NET_ADMIN"]);
        assert_eq!(
            missing_capabilities(0),
            ["CAP_BPF", "CAP_PERFMON", "CAP_NET_ADMIN"]
        );
    }
}
