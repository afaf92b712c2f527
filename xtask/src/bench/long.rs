//! The section about the long flood.

use serde_json::Value;

use super::{number, row};

const ABOUT: &str = "\
Frames of the same generator, at full speed and of the same number for each kind and family, into a tracker that enforces by
its defaults (but for short time-outs, and limits of listeners and sources that nothing reaches, so that their shares are
counted); its grace for pick-ups is over. SYNs have a Linux client's options, ACKs belong to no connection, and the mixed
frames are ACKs with all eight flags at random. The queue of the veth pair (256 frames) loses what comes faster than it is
taken; those frames are counted apart. Two honest connections stay open all the time. What is held is looked at every
10 ms, and again after the last flood until all of it was given back.
";

/// Reasons of a flood that are named.
const NAMED: usize = 4;

/// The section.
pub fn section(report: &Value) -> String {
    let machine = &report["machine"];
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let count = |value: &Value| number(value.as_f64().unwrap_or_default());
    let mut page = format!("## long-flood\n\n{ABOUT}\n");
    page += &format!(
        "{}: Linux {}, {} cores (CPU model {:?}). {} frames{}; the run took {} s, and {} s after the last \
         frame everything was given back.\n\n",
        text(&machine["date"]),
        text(&machine["kernel"]),
        count(&machine["cores"]),
        text(&machine["cpu"]),
        count(&report["frames"]),
        if report["quick"] == true {
            " (a quick run)"
        } else {
            ""
        },
        number(report["seconds"].as_f64().unwrap_or_default().round()),
        number(report["home_seconds"].as_f64().unwrap_or_default()),
    );
    page += &floods(report);
    page += "\n";
    page += &laws(report);
    let megabytes = |home: &Value| number(home["kernel"].as_f64().unwrap_or_default() / 1e6);
    page += &format!(
        "\nMemory of the whole machine's kernel, other programs included: {} MB before, {} MB after.\n",
        megabytes(&report["start"]),
        megabytes(&report["end"]),
    );
    page
}

fn floods(report: &Value) -> String {
    let mut table = row([
        "frames",
        "sent",
        "lost in the queue",
        "received",
        "million/s",
        "accepted",
        "noted",
        "refused",
        "unaccounted for",
        "reasons",
        "half-open, at most",
        "flows, at most",
    ]);
    table += "|---|---|---|---|---|---|---|---|---|---|---|---|\n";
    for flood in report["floods"].as_array().into_iter().flatten() {
        let word = |name: &str| flood[name].as_str().unwrap_or_default();
        let value = |name: &str| flood[name].as_f64().unwrap_or_default();
        let count = |name: &str| number(value(name));
        let reasons: Vec<String> = flood["reasons"]
            .as_array()
            .into_iter()
            .flatten()
            .take(NAMED)
            .map(|reason| {
                let name = reason[0].as_str().unwrap_or_default();
                format!("{name} {}", number(reason[1].as_f64().unwrap_or_default()))
            })
            .collect();
        table += &row([
            format!("{}, {}", word("kind"), word("family")),
            count("sent"),
            count("lost"),
            count("received"),
            number(value("received") / value("seconds").max(1e-9) / 1e6),
            count("accepted"),
            count("noted"),
            count("refused"),
            count("unaccounted"),
            reasons.join(", "),
            count("half_open"),
            count("flows"),
        ]);
    }
    table
}

fn laws(report: &Value) -> String {
    let mut table = row(["must hold", "measured", "holds"]);
    table += "|---|---|---|\n";
    for law in report["laws"].as_array().into_iter().flatten() {
        table += &row([
            law["what"].as_str().unwrap_or_default(),
            law["measured"].as_str().unwrap_or_default(),
            if law["holds"] == true { "yes" } else { "no" },
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_flood_has_its_row_and_each_law_its_verdict() {
        let report = json!({
            "frames": 6, "home_seconds": 1.5, "seconds": 9.0,
            "floods": [{
                "kind": "syn", "family": "ipv6", "sent": 3_000_000, "lost": 1, "received": 2_999_999,
                "seconds": 2.0, "accepted": 5, "noted": 0, "refused": 0, "unaccounted": -2,
                "reasons": [["cookie_sent", 5], ["a", 4], ["b", 3], ["c", 2], ["d", 1]],
                "half_open": 7, "flows": 9,
            }],
            "laws": [
                {"what": "one", "holds": true, "measured": "1 = 1"},
                {"what": "two", "holds": false, "measured": "2 = 1"},
            ],
        });
        let text = section(&report);
        assert!(
            text.contains(
                "| syn, ipv6 | 3,000,000 | 1 | 2,999,999 | 1.5 | 5 | 0 | 0 | -2 | cookie_sent 5, a 4, b 3, \
                 c 2 | 7 | 9 |"
            ),
            "{text}"
        );
        assert!(text.contains("| one | 1 = 1 | yes |"), "{text}");
        assert!(text.contains("| two | 2 = 1 | no |"), "{text}");
    }
}
