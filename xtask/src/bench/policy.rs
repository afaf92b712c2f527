//! The section about the policy.

use serde_json::Value;

use super::{number, row, spread, targets};

const ABOUT: &str = "\
Each rule names a prefix and a port. Either the last rule is for all connections and the others for other addresses and
ports (*last*); or all rules share the connections out between them (*spread*); or the last rule is for all connections and of
the others one half is for their addresses and another port, the other half for their port and another address (*crossed*: the
worst for bit vectors, since no field alone rules those out).

*First packet*: the ingress program run on SYNs, each of which opens a flow, one at a time, so that the processor has not
just read for the one before what the program reads of the policy. What it takes to call the kernel's clock (some 50 ns) is
in every figure.

*Flood*: SYNs from made-up sources, written and sent as under *flood*, to a port where nobody listens: the firewall lets
them through, and the stack answers each with an RST, which passes the firewall, too. nftables has `ct state
established,related accept` and then the same rules as a plain chain. Times are without the generator's.
";

/// The section.
pub fn section(report: &Value) -> String {
    let machine = &report["machine"];
    let text = |value: &Value| value.as_str().unwrap_or("unknown").to_owned();
    let count = |value: &Value| number(value.as_f64().unwrap_or_default());
    let mut page = format!("## policy\n\n{ABOUT}\n");
    page += &format!(
        "{}: Linux {}, {} cores{} (CPU model {:?}). {} rounds{}; the run took {} s. Load of the machine: {} \
         before the run, {} at its end.\n",
        text(&machine["date"]),
        text(&machine["kernel"]),
        count(&machine["cores"]),
        if machine["virtual_machine"] == true {
            " of a virtual machine"
        } else {
            ""
        },
        text(&machine["cpu"]),
        count(&report["rounds"]),
        if report["quick"] == true {
            " (a quick run)"
        } else {
            ""
        },
        number(report["seconds"].as_f64().unwrap_or_default().round()),
        count(&report["load"][0]),
        count(&report["load"][1]),
    );
    page += "\n### What the first packet of a connection costs\n\n";
    page += &first(report);
    page += "\n### Through the tracker and through nftables\n\n";
    page += &through(report);
    page += "\n### What a policy takes\n\n";
    page += &sizes(report);
    page += "\n### Against the targets of the policy\n\n";
    page += &targets(&report["targets"]);
    page
}

fn rows<'a>(report: &'a Value, name: &str) -> impl Iterator<Item = &'a Value> {
    report[name].as_array().into_iter().flatten()
}

/// How the rules are arranged.
fn order(value: &Value) -> &str {
    value["order"].as_str().unwrap_or_default()
}

fn rules(value: &Value) -> String {
    number(value["rules"].as_f64().unwrap_or_default())
}

fn first(report: &Value) -> String {
    let mut table = row(["rules", "arrangement", "ns"]);
    table += "|---|---|---|\n";
    table += &row([
        "no policy".to_owned(),
        String::new(),
        spread(&report["without"], 1.0),
    ]);
    for line in rows(report, "first") {
        table += &row([
            rules(line),
            order(line).to_owned(),
            spread(&line["ns"], 1.0),
        ]);
    }
    table
}

fn through(report: &Value) -> String {
    let mut table = row([
        "rules",
        "arrangement",
        "no firewall, ns a SYN",
        "tracker, ns a SYN",
        "nftables, ns a SYN",
        "tracker / nftables",
    ]);
    table += "|---|---|---|---|---|---|\n";
    for line in rows(report, "through") {
        table += &row([
            rules(line),
            order(line).to_owned(),
            spread(&line["bare_ns"], 1.0),
            spread(&line["tracker_ns"], 1.0),
            spread(&line["nftables_ns"], 1.0),
            spread(&line["ratio"], 1.0),
        ]);
    }
    table
}

fn sizes(report: &Value) -> String {
    let mut table = row([
        "rules",
        "arrangement",
        "compiled in, ms",
        "installed in, ms",
        "blocks, KiB",
        "prefixes",
        "their entries, KiB",
    ]);
    table += "|---|---|---|---|---|---|---|\n";
    for line in rows(report, "policies") {
        let value = |name: &str| line[name].as_f64().unwrap_or_default();
        table += &row([
            rules(line),
            order(line).to_owned(),
            number(value("compile_ms")),
            number(value("install_ms")),
            number(value("blocks_bytes") / 1024.0),
            number(value("prefixes")),
            number(value("prefixes_bytes") / 1024.0),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_number_of_rules_has_its_rows() {
        let one = json!({"min": 1.0, "median": 2.0, "max": 3.0});
        let report = json!({
            "rounds": 5, "load": [0.5, 2], "seconds": 10.2, "without": one,
            "first": [{"rules": 10_000, "order": "last", "ns": one}],
            "through": [{
                "rules": 10, "order": "spread", "bare_ns": one, "tracker_ns": one, "nftables_ns": null,
                "ratio": null,
            }],
            "policies": [{
                "rules": 1, "order": "last", "compile_ms": 1.5, "install_ms": 20, "blocks_bytes": 4096,
                "prefixes": 3, "prefixes_bytes": 1024,
            }],
            "targets": [{"what": "a / b", "at_most": 3, "ratio": one, "met": true}],
        });
        let text = section(&report);
        for line in [
            "| no policy |  | 2 (1 to 3) |",
            "| 10,000 | last | 2 (1 to 3) |",
            "| 10 | spread | 2 (1 to 3) | 2 (1 to 3) |  |  |",
            "| 1 | last | 1.5 | 20 | 4 | 3 | 1 |",
            "| a / b | 3 | 2 (1 to 3) | yes |",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
