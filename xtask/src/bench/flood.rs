//! The section about the flood.

use serde_json::Value;

use super::{number, row, spread, targets};

const ABOUT: &str = "\
A client's interface is flooded from one core: an eBPF program writes every frame anew, with a made-up source address,
port and sequence number and right checksums, and sends it by a live-frame run of `BPF_PROG_TEST_RUN` into a veth pair.
The receiver works on the same core, so that a frame's time is the generator's and the receiver's together. *Net* is what
is left of it without the time that a frame takes into an XDP program that drops it. Answers are counted where they come
back, in front of the client's stack.
Honest clients and the server have the other cores: one client opens a connection, sends 64 octets, gets them back and
closes, again and again; another holds a bulk transfer at a fixed pace. A connection went well if no SYN had to be sent
again. The veth pair has a queue for what the flood's core sends and another for what the others send, as a NIC has that
spreads connections over its queues (`-- --one-queue` makes them share one). Frames that found a queue (256) full are
counted apart: the defence has never seen them.
";

/// The section.
pub fn section(report: &Value) -> String {
    let mut text = format!("## flood\n\n{ABOUT}\n");
    text += &conditions(report);
    text += "\n### What a SYN costs, and what is held\n\nThe flood alone, at full speed.\n\n";
    text += &cost(report);
    text += "\n### What honest clients notice\n\nBeside the flood at full speed:\n\n";
    text += &noticed(report, "full");
    text += "\nBeside the paced flood:\n\n";
    text += &noticed(report, "paced");
    text += "\n### Against the targets\n\n";
    text += &targets(&report["summary"]["targets"]);
    text
}

fn conditions(report: &Value) -> String {
    let machine = &report["machine"];
    let settings = &report["settings"];
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let count = |value: &Value| number(value.as_f64().unwrap_or_default());
    format!(
        "{}: Linux {}, {} cores{} (CPU model {:?}), {} GB of memory, frequency governor: {}.\n\
         {} rounds{}; {} frames of {} octets ({}, {}) alone; {} s beside honest clients; paced: {} \
         frames a second for {} s; bulk transfer paced at {} MB/s; backlog {}. The run took {} s.\n",
        text(&machine["date"]),
        text(&machine["kernel"]),
        count(&machine["cores"]),
        if machine["virtual_machine"] == true {
            " of a virtual machine"
        } else {
            ""
        },
        text(&machine["cpu"]),
        number(machine["memory"].as_f64().unwrap_or_default() / 1e9),
        machine["governor"].as_str().unwrap_or("none"),
        count(&settings["rounds"]),
        if settings["quick"] == true {
            " (a quick run)"
        } else {
            ""
        },
        count(&settings["alone_frames"]),
        count(&settings["frame_octets"]),
        text(&settings["kind"]),
        text(&settings["family"]),
        count(&settings["beside_seconds"]),
        count(&settings["rate"]),
        count(&settings["paced_seconds"]),
        number(settings["bulk_pace"].as_f64().unwrap_or_default() / 1e6),
        count(&settings["backlog"]),
        count(&report["seconds"]),
    )
}

fn figures(report: &Value) -> impl Iterator<Item = &Value> {
    report["summary"]["contestants"]
        .as_array()
        .into_iter()
        .flatten()
}

/// What could not be measured, for the last cell of a row.
fn failure(figures: &Value) -> Option<String> {
    let error = figures["error"].as_str()?;
    let first = error.lines().find(|line| !line.trim().is_empty())?;
    Some(format!("failed: {first}"))
}

fn cost(report: &Value) -> String {
    let mut table = row([
        "contestant",
        "net ns a SYN",
        "million SYN/s, generator included",
        "half-open at most",
        "limit",
        "kernel memory, MB",
    ]);
    table += "|---|---|---|---|---|---|\n";
    for figures in figures(report) {
        let title = figures["title"].as_str().unwrap_or_default().to_owned();
        if let Some(failure) = failure(figures) {
            table += &row([title, failure, "".into(), "".into(), "".into(), "".into()]);
            continue;
        }
        let whole = |value: &Value| value.as_f64().map(number).unwrap_or_default();
        table += &row([
            title,
            spread(&figures["net_ns"], 1.0),
            spread(&figures["alone_per_second"], 1e-6),
            whole(&figures["half_open"]),
            whole(&figures["half_open_limit"]),
            spread(&figures["kernel_memory"], 1e-6),
        ]);
    }
    table
}

fn noticed(report: &Value, which: &str) -> String {
    let mut table = row([
        "contestant",
        "million SYN/s received",
        "answered",
        "lost in the queue, %",
        "honest success, %",
        "tried / resent / failed",
        "p50, us",
        "p99, us",
        "bulk, MB/s",
        "bulk resent",
        "other packets lost in queues",
        "cores busy, %",
    ]);
    table += "|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    let mut any = false;
    for figures in figures(report) {
        let noticed = &figures[which];
        if noticed.is_null() {
            continue;
        }
        any = true;
        let count = |name: &str| number(noticed[name].as_f64().unwrap_or_default());
        let cores: Vec<String> = noticed["cores"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|core| number((core.as_f64().unwrap_or_default() * 100.0).round()))
            .collect();
        table += &row([
            figures["title"].as_str().unwrap_or_default().to_owned(),
            spread(&noticed["received_per_second"], 1e-6),
            spread(&noticed["answered_per_second"], 1e-6),
            spread(&noticed["lost"], 100.0),
            spread(&noticed["success"], 100.0),
            format!(
                "{} / {} / {}",
                count("tried"),
                count("resent"),
                count("failed")
            ),
            spread(&noticed["p50_us"], 1.0),
            spread(&noticed["p99_us"], 1.0),
            spread(&noticed["bulk_per_second"], 1e-6),
            count("bulk_retransmitted"),
            count("others_lost"),
            cores.join(" "),
        ]);
    }
    if any {
        table
    } else {
        "(Not a part of this run.)\n".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn failures_and_missing_parts_are_shown_as_such() {
        let report = json!({
            "settings": {"rounds": 2, "quick": true},
            "summary": {
                "contestants": [
                    {"title": "good", "net_ns": {"min": 1.0, "median": 2.0, "max": 3.0}},
                    {"title": "bad", "error": "no such option\nusage: …"},
                ],
                "targets": [
                    {"what": "a / b", "at_most": 0.5, "ratio": null, "met": null},
                    {"what": "a / c", "at_most": 2.0,
                     "ratio": {"min": 1.0, "median": 1.5, "max": 3.0}, "met": true},
                ],
            },
        });
        let text = section(&report);
        assert!(text.contains("| good | 2 (1 to 3) |"), "{text}");
        assert!(text.contains("| bad | failed: no such option |"), "{text}");
        assert!(text.contains("(Not a part of this run.)"), "{text}");
        assert!(
            text.contains("| a / b | 0.500 | not measured |  |"),
            "{text}"
        );
        assert!(
            text.contains("| a / c | 2 | 1.5 (1 to 3) | yes |"),
            "{text}"
        );
    }
}
