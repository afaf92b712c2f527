//! Debian's packages: what is installed, what could be, and installing it.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::{
    paths, privilege,
    process::{capture, run_logged, say},
};

/// The package manager, if this machine has it.
pub struct Apt {
    available: bool,
    /// The package lists are refreshed once at most.
    updated: bool,
}

impl Apt {
    /// Looks whether there is an apt here.
    pub fn detect() -> Self {
        let available =
            paths::program("apt-get").is_some() && paths::program("dpkg-query").is_some();
        Self {
            available,
            updated: false,
        }
    }

    /// Whether packages can be asked for at all.
    pub fn available(&self) -> bool {
        self.available
    }

    /// Whether the package is one that can be installed, as far as the lists on
    /// this machine know.
    ///
    /// # Errors
    /// apt does not run.
    pub fn knows(&self, package: &str) -> Result<bool> {
        Ok(self.available && candidate(&policy(package)?))
    }

    /// Refreshes the package lists unless that has been done; returns whether
    /// it was worth asking again.
    ///
    /// # Errors
    /// No root, or apt fails.
    pub fn update(&mut self, reason: &str) -> Result<bool> {
        if !self.available || self.updated {
            return Ok(false);
        }
        say(&format!("refreshing the package lists: {reason}"));
        run_logged(
            "apt-update",
            apt_get("refreshing the package lists")?.arg("update"),
        )?;
        self.updated = true;
        Ok(true)
    }

    /// Installs those of `packages` that are missing, and says that they are
    /// for `reason`. Removes nothing: where that would be needed, it fails.
    ///
    /// # Errors
    /// This is no Debian, no root, an unknown package, or apt fails.
    pub fn install(&mut self, packages: &[String], reason: &str) -> Result<()> {
        if !self.available {
            bail!(
                "{reason}: on Debian these are the packages {}; this system has no apt, so install \
                 their equivalent with its own package manager",
                packages.join(" ")
            );
        }
        let missing = missing(packages)?;
        if missing.is_empty() {
            return Ok(());
        }
        let unknown = |apt: &Self| -> Result<Vec<&String>> {
            let mut unknown = Vec::new();
            for package in &missing {
                if !apt.knows(package)? {
                    unknown.push(package);
                }
            }
            Ok(unknown)
        };
        let names = |packages: &[&String]| {
            packages
                .iter()
                .map(|p| p.as_str())
                .collect::<Vec<_>>()
                .join(" ")
        };
        let absent = unknown(self)?;
        if !absent.is_empty() {
            self.update(&format!("they do not know {}", names(&absent)))?;
            let absent = unknown(self)?;
            if !absent.is_empty() {
                bail!(
                    "no package source of this system has {} ({reason})",
                    names(&absent)
                );
            }
        }
        say(&format!("installing {}: {reason}", missing.join(" ")));
        if let Err(error) = self.install_once(&missing) {
            // Lists older than the mirror name files that are gone.
            if !self.update("the installation failed, perhaps because they are out of date")? {
                return Err(error);
            }
            self.install_once(&missing)?;
        }
        Ok(())
    }

    fn install_once(&self, packages: &[String]) -> Result<()> {
        let mut command = apt_get(&format!("installing {}", packages.join(" ")))?;
        command
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args(packages);
        run_logged("apt-install", &mut command).with_context(|| {
            format!(
                "cannot install {}; install by hand and run this again",
                packages.join(" ")
            )
        })
    }
}

fn apt_get(purpose: &str) -> Result<Command> {
    let variables = [("DEBIAN_FRONTEND".into(), "noninteractive".into())];
    let mut command = privilege::as_root("apt-get", &variables, purpose)?;
    // Another package run may hold the lock for a moment.
    command.args(["-q", "-o", "DPkg::Lock::Timeout=120"]);
    Ok(command)
}

fn missing(packages: &[String]) -> Result<Vec<String>> {
    let mut command = Command::new("dpkg-query");
    command
        .args([
            "--show",
            "--showformat",
            "${Package} ${db:Status-Status}\\n",
        ])
        .args(packages);
    // It fails when it does not know one of them, and still lists the others.
    let output = command.output().context("cannot start `dpkg-query`")?;
    let listed = String::from_utf8_lossy(&output.stdout);
    Ok(packages
        .iter()
        .filter(|package| !installed(&listed, package))
        .cloned()
        .collect())
}

fn installed(listed: &str, package: &str) -> bool {
    listed
        .lines()
        .any(|line| line.split_once(' ') == Some((package, "installed")))
}

fn policy(package: &str) -> Result<String> {
    capture(
        Command::new("apt-cache")
            .args(["policy", package])
            .env("LC_ALL", "C"),
    )
}

/// Whether `apt-cache policy` names a version that could be installed.
fn candidate(policy: &str) -> bool {
    policy
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Candidate: "))
        .any(|version| version != "(none)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidate_is_a_version() {
        let known = "iperf3:\n  Installed: (none)\n  Candidate: 3.12-1+deb12u2\n  Version table:\n";
        assert!(candidate(known));
        assert!(!candidate(
            "virtual:\n  Installed: (none)\n  Candidate: (none)\n"
        ));
        // What apt knows nothing of gives no output at all.
        assert!(!candidate(""));
    }

    #[test]
    fn removed_package_with_configuration_left_is_not_installed() {
        let listed = "iproute2 installed\nnftables config-files\n";
        assert!(installed(listed, "iproute2"));
        assert!(!installed(listed, "nftables"));
        assert!(!installed(listed, "iproute"));
    }
}
