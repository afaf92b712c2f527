//! The sysctls that cookies need: who sets them, and what works without.

use anyhow::Result;
use tracker_common::abi::CookieMode;

use super::posture;
use crate::{
    config::Config,
    datapath::{HostTcp, Managed, Sysctls},
};

/// The sysctls in the hands of the agent, if it may have them.
pub struct Custody {
    sysctls: Sysctls,
    manage: bool,
}

impl Custody {
    /// With `manage`, they are set; else only looked at.
    pub const fn new(sysctls: Sysctls, manage: bool) -> Self {
        Self { sysctls, manage }
    }

    /// Whether cookies can be had: the kernel gives them, or can be made to.
    pub const fn cookies_can_be_had(&self, host: HostTcp) -> bool {
        self.manage || host.syncookies == Managed::WANTED
    }

    /// Sets one to what the defence needs, and says so.
    ///
    /// # Errors
    ///
    /// It cannot be set: it is as it was.
    pub fn raise(&self, sysctl: Managed) -> Result<()> {
        if self.manage
            && let Some(change) = self.sysctls.raise(sysctl)?
        {
            tracing::info!("{change}");
        }
        Ok(())
    }

    /// Whether one has been changed, by this agent or an earlier one.
    pub fn holds(&self, sysctl: Managed) -> bool {
        self.sysctls.original(sysctl).is_some()
    }

    /// Sets one back to what it was before the tracker, and says so. Does so for
    /// an earlier agent's change, too, whether or not this one may make any.
    ///
    /// # Errors
    ///
    /// It cannot be set.
    pub fn restore(&self, sysctl: Managed) -> Result<()> {
        if !self.holds(sysctl) {
            return Ok(());
        }
        match self.sysctls.restore(sysctl)? {
            Some(change) => tracing::info!("{change}, as it was before the tracker"),
            None => tracing::info!(
                "net.ipv4.{} stays as somebody else has set it meanwhile",
                sysctl.name()
            ),
        }
        Ok(())
    }

    /// Tells what will be changed, and when; or what is missing, and what does
    /// therefore not work.
    pub fn announce(&self, config: &Config, host: HostTcp) {
        if !posture::may_answer(config) {
            return;
        }
        if self.manage {
            plan(config, host)
                .iter()
                .for_each(|line| tracing::info!("{line}"));
        } else {
            missing(host)
                .iter()
                .for_each(|line| tracing::warn!("{line}"));
        }
    }
}

/// What will be changed, and when.
fn plan(config: &Config, host: HostTcp) -> Vec<String> {
    let mut lines = Vec::new();
    let wanted = Managed::WANTED;
    if host.timestamps != wanted {
        lines.push(format!(
            "net.ipv4.tcp_timestamps will be {wanted} instead of {} until the end: the timestamps \
             of SYN cookies then bring window scale, SACK and ECN back",
            host.timestamps
        ));
    }
    if host.syncookies != wanted {
        let when = match config.defence.cookies {
            CookieMode::Always => "until the end",
            CookieMode::Adaptive | CookieMode::Never => "while cookies are on",
        };
        lines.push(format!(
            "net.ipv4.tcp_syncookies will be {wanted} instead of {} {when}: the kernel then gives \
             cookies, and sends them itself for every SYN that reaches it",
            host.syncookies
        ));
    }
    lines
}

/// What is missing where the agent may change nothing.
fn missing(host: HostTcp) -> Vec<String> {
    let mut lines = Vec::new();
    let wanted = Managed::WANTED;
    if host.timestamps != wanted {
        lines.push(format!(
            "net.ipv4.tcp_timestamps is {}, not {wanted}, and defence.manage_sysctls = false: SYN \
             cookies carry no window scale, no SACK, no timestamps and no ECN, so connections made \
             during a flood are slow on long paths; `sysctl -w net.ipv4.tcp_timestamps={wanted}` \
             mends it",
            host.timestamps
        ));
    }
    if host.syncookies != wanted {
        lines.push(format!(
            "net.ipv4.tcp_syncookies is {}, not {wanted}, and defence.manage_sysctls = false: no \
             SYN cookies are sent, whatever defence.cookies says; `sysctl -w \
             net.ipv4.tcp_syncookies={wanted}` mends it, and lets the kernel send its own for \
             every SYN that reaches it",
            host.syncookies
        ));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        super::posture::tests::{HOST, enforcing},
        *,
    };

    #[test]
    fn each_sysctl_that_changes_is_told_with_its_values() {
        let plan = plan(&enforcing(), HOST).join("\n");
        assert!(plan.contains("tcp_timestamps will be 2 instead of 1 until the end"));
        assert!(plan.contains("tcp_syncookies will be 2 instead of 1 while cookies are on"));
    }

    #[test]
    fn what_is_right_is_neither_changed_nor_missed() {
        let host = HostTcp {
            timestamps: 2,
            syncookies: 2,
            ..HOST
        };
        assert!(plan(&enforcing(), host).is_empty() && missing(host).is_empty());
    }

    #[test]
    fn what_is_missing_is_told_with_its_consequence_and_its_command() {
        let lines = missing(HOST);
        assert!(lines[0].contains("no window scale") && lines[0].contains("tcp_timestamps=2"));
        assert!(lines[1].contains("no SYN cookies") && lines[1].contains("tcp_syncookies=2"));
    }
}
