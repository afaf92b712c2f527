//! The kernel side as userspace sees it: the only module that names aya.
//!
//! | module | what it holds |
//! |---|---|
//! | `features` | what the kernel must offer |
//! | `load` | the objects, and what is fixed at load |
//! | `active` | the tracker of a running agent: load, attach, adopt, end |
//! | `attach`, `nic` | the hooks on an interface, and what is asked of it |
//! | `pins`, `pinned`, `unload` | the pin directory: holding, reading, removing it |
//! | `upkeep`, `notes`, `floods` | what the agent does by itself, written down there |
//! | `run` | where the agent's socket and records are |
//! | `sysctl` | sysctls that are changed for a time, and what they were |
//! | `tables`, `beside`, `defended`, `batch`, `ring` | typed access to the maps |
//! | `policy`, `rules` | the compiled policies, and what is kept of their rules |
//! | `reap`, `seed` | removal of flows by the kernel's judgement, and making them |
//! | `trial` | the loaded programs in the hands of tests |
//! | `sys` | system calls that aya does not offer |

mod active;
mod attach;
mod batch;
mod beside;
mod defended;
mod error;
mod facts;
mod features;
mod floods;
mod load;
mod log;
mod names;
mod nic;
mod notes;
mod pinned;
mod pins;
mod policy;
mod reap;
mod ring;
mod rules;
mod run;
mod seed;
mod sys;
mod sysctl;
mod tables;
mod trial;
mod unload;
mod upkeep;

pub use self::{
    active::{Active, Attached, Egress},
    attach::XdpMode,
    batch::FlowReader,
    error::{Error, Result},
    facts::{MapFacts, ProgramFacts},
    features::{Kernel, check as check_features},
    floods::Floods,
    load::{LoadOptions, objects},
    log::ProgramLog,
    nic::{HiddenTags, Nic, hidden_tags, index_of, name_of, names as interface_names},
    notes::{CookieNote, Corrections},
    pinned::Pinned,
    policy::Installed,
    reap::ReapTotals,
    ring::EventRing,
    rules::{Fresh, RuleTotals},
    run::run_dir,
    seed::Planted,
    sysctl::{Change, HostTcp, Managed, Sysctls},
    tables::Tables,
    trial::{Loaded, Place, Ran, Run, load_for_bench, load_for_test},
    unload::{Unloaded, unload},
    upkeep::Upkeep,
};
