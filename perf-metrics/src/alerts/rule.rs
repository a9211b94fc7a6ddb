use std::time::Duration;

/// Rules that are evaluated one after the other.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) records: Vec<Record>,
    pub(super) alerts: Vec<Alert>,
}

/// An expression whose values are kept under a name.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) name: String,
    pub(super) expr: String,
    pub(super) labels: Vec<(&'static str, String)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) enum Severity {
    Warning,
    Critical,
}

impl Severity {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// An alert, with an example of what sets it off and of what must not.
#[derive(Debug)]
pub(super) struct Alert {
    pub(super) name: &'static str,
    pub(super) severity: Severity,
    pub(super) expr: String,
    /// Beside the severity.
    pub(super) labels: Vec<(&'static str, String)>,
    /// For how long the expression has to have a value.
    pub(super) hold: Duration,
    pub(super) summary: &'static str,
    /// With `{{ $labels.x }}` for labels and one of the `{{ $value .. }}` for the value.
    pub(super) description: String,
    /// What to do.
    pub(super) runbook: &'static str,
    /// What it fires for: those of a test all at once.
    pub(super) fires: Vec<Vec<Example>>,
    /// What it must not fire for, each with its name.
    pub(super) silent: Vec<(&'static str, Vec<Series>)>,
}

/// What sets an alert off.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) series: Vec<Series>,
    /// The labels that the alert has then, beside its severity.
    pub(super) labels: Vec<(&'static str, String)>,
    /// Its value as the description shows it.
    pub(super) value: String,
}

/// The samples of a series.
#[derive(Debug, Clone)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) first: f64,
    /// What each sample is above the one before.
    pub(super) step: f64,
}

impl Series {
    pub(super) fn constant(name: String, value: f64) -> Self {
        Self {
            name,
            first: value,
            step: 0.0,
        }
    }

    pub(super) fn rising(name: String, step: f64) -> Self {
        Self {
            name,
            first: 0.0,
            step,
        }
    }
}

impl Alert {
    /// The description for these labels and this value.
    pub(super) fn described(&self, example: &Example) -> String {
        let mut text = self.description.clone();
        for (name, value) in &example.labels {
            text = text.replace(&format!("{{{{ $labels.{name} }}}}"), value);
        }
        for value in [PERCENT, SECONDS, WHOLE] {
            text = text.replace(value, &example.value);
        }
        text
    }
}

/// The value as a percentage, in a description.
pub(super) const PERCENT: &str = "{{ $value | humanizePercentage }}";
/// The value as a time, in a description.
pub(super) const SECONDS: &str = "{{ $value | humanizeDuration }}";
/// The value as a whole number, in a description.
pub(super) const WHOLE: &str = "{{ $value | printf \"%.0f\" }}";
