use linux_clone_process::{self as process, Obstacle};
use napi_derive::napi;

use crate::failure::{Failure, Outcome, outcome};

/// What was found out of one feature; it works where there is neither a failure nor something missing.
#[napi(object)]
pub struct Finding {
    pub feature: String,
    pub failure: Option<Failure>,
    pub missing: Option<String>,
}

/// Tries every feature.
#[napi]
pub fn probe() -> Outcome<Vec<Finding>> {
    outcome(process::probe(), |findings| findings.iter().map(convert).collect())
}

fn convert(finding: &process::Finding) -> Finding {
    let (failure, missing) = match &finding.obstacle {
        None => (None, None),
        Some(Obstacle::Refused(failure)) => (Some((*failure).into()), None),
        Some(Obstacle::Missing(what)) => (None, Some((*what).to_owned())),
    };
    Finding { feature: finding.feature.to_owned(), failure, missing }
}
