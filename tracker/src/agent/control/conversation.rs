//! What is asked over one connection to the agent's socket, and answered.

use std::sync::Arc;

use anyhow::Result;

use crate::{
    agent::policy::{Decision, Outcome, Policies},
    control::{
        frames::Frames,
        message::{Asked, Reply, Request, VERSION},
    },
};

/// Answers until the other end leaves.
///
/// # Errors
///
/// It says what cannot be read, or is gone before it has its answer.
pub async fn hold(mut frames: Frames, policies: &Arc<Policies>) -> Result<()> {
    let mut decision: Option<Decision> = None;
    loop {
        let asked = tokio::select! {
            asked = frames.receive::<Asked>() => asked?,
            outcome = decided(&mut decision) => {
                frames.send(&told(outcome)).await?;
                continue;
            }
        };
        let Some(asked) = asked else {
            return Ok(());
        };
        let reply = match understand(asked) {
            Ok(Request::Apply(apply)) => match policies.apply(*apply).await {
                Ok((applied, awaited)) => {
                    decision = awaited;
                    Reply::Applied(applied)
                }
                Err(error) => refused(&error),
            },
            // Who awaits a decision is told of it below.
            Ok(Request::Confirm) => match policies.confirm() {
                Ok(()) if decision.is_some() => continue,
                Ok(()) => Reply::Confirmed,
                Err(error) => refused(&error),
            },
            Err(error) => refused(&error),
        };
        frames.send(&reply).await?;
    }
}

/// What was asked, in words of this version.
fn understand(asked: Asked) -> Result<Request> {
    anyhow::ensure!(
        asked.version == VERSION,
        "the agent speaks version {VERSION} of the language of its socket, and was asked in version \
         {}: use the `tracker` that is running, or restart it",
        asked.version
    );
    Ok(serde_json::from_value(asked.request)?)
}

fn refused(error: &anyhow::Error) -> Reply {
    Reply::Refused {
        why: format!("{error:#}"),
    }
}

/// What becomes of the policy that was applied here, once; never where none was, or
/// it need not be confirmed.
async fn decided(decision: &mut Option<Decision>) -> Outcome {
    if let Some(receiver) = decision
        && let Ok(outcome) = receiver
            .wait_for(Option::is_some)
            .await
            .map(|outcome| *outcome)
        && let Some(outcome) = outcome
    {
        *decision = None;
        return outcome;
    }
    std::future::pending().await
}

const fn told(outcome: Outcome) -> Reply {
    match outcome {
        Outcome::Confirmed => Reply::Confirmed,
        Outcome::Returned => Reply::Returned,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_version_is_told_so() {
        let asked = |version, request: &str| Asked {
            version,
            request: serde_json::from_str(request).unwrap(),
        };
        let confirm = r#"{"do":"confirm"}"#;
        assert_eq!(
            understand(asked(VERSION, confirm)).unwrap(),
            Request::Confirm
        );
        let error = understand(asked(VERSION + 1, confirm)).unwrap_err();
        assert!(error.to_string().contains("version"), "{error}");
        assert!(understand(asked(VERSION, "7")).is_err());
    }
}
