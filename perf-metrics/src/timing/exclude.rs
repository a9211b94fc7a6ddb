use std::fmt;

use matchit::{InsertError, Router};
use thiserror::Error;

/// A pattern of [`exclude`](super::TimingLayer::exclude) that is not one.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error(
    "cannot exclude {pattern:?}: {reason}; patterns look like /health, /users/{{id}} or /static/{{*rest}}"
)]
pub struct InvalidPattern {
    pattern: String,
    reason: String,
}

impl InvalidPattern {
    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.pattern
    }
}

/// Which requests are not timed.
#[derive(Clone, Default)]
pub(super) struct Exclusions {
    patterns: Vec<String>,
    /// More than one where patterns overlap as routes must not, such as `/{a}` and `/{b}`.
    routers: Vec<Router<()>>,
}

/// What a route's label says of the exclusion of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excluded {
    /// Each is excluded.
    Always,
    /// No path that matches the route matches a pattern.
    Never,
    /// The path has to be looked at.
    ByPath,
}

impl Exclusions {
    /// Adds patterns to those of before.
    pub(super) fn with(
        before: Option<&Self>,
        patterns: impl IntoIterator<Item = impl Into<String>>,
    ) -> Result<Self, InvalidPattern> {
        let mut all = before.cloned().unwrap_or_default();
        for pattern in patterns {
            let pattern = pattern.into();
            let invalid = |reason: String| InvalidPattern {
                pattern: pattern.clone(),
                reason,
            };
            if !pattern.starts_with('/') {
                return Err(invalid("it does not start with a slash".to_owned()));
            }
            if all.patterns.contains(&pattern) {
                continue;
            }
            all.insert(&pattern)
                .map_err(|error| invalid(error.to_string()))?;
            all.patterns.push(pattern);
        }
        Ok(all)
    }

    fn insert(&mut self, pattern: &str) -> Result<(), InsertError> {
        for router in &mut self.routers {
            match router.insert(pattern, ()) {
                Err(InsertError::Conflict { .. }) => {}
                done => return done,
            }
        }
        let mut router = Router::new();
        router.insert(pattern, ())?;
        self.routers.push(router);
        Ok(())
    }

    /// Whether a pattern matches the path, or the label of a route as if it were one.
    pub(super) fn matches(&self, path: &str) -> bool {
        self.routers.iter().any(|router| router.at(path).is_ok())
    }

    /// What the label of a route that the framework matched says.
    pub(super) fn of_route(&self, label: &str) -> Excluded {
        if self.matches(label) {
            return Excluded::Always;
        }
        // What stands before the first parameter is the same in each path.
        let route = fixed(label);
        let possible = |pattern: &String| {
            let pattern = fixed(pattern);
            pattern.starts_with(route) || route.starts_with(pattern)
        };
        if self.patterns.iter().any(possible) {
            Excluded::ByPath
        } else {
            Excluded::Never
        }
    }
}

fn fixed(pattern: &str) -> &str {
    pattern.split('{').next().unwrap_or(pattern)
}

impl fmt::Debug for Exclusions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(&self.patterns).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exclusions(patterns: &[&str]) -> Exclusions {
        Exclusions::with(None, patterns.iter().copied()).unwrap()
    }

    #[test]
    fn patterns_match_as_routes_do() {
        let all = exclusions(&[
            "/static/{*p}",
            "/health/{*p}",
            "/metrics",
            "/users/{id}/avatar",
        ]);
        for path in [
            "/static/a/b.js",
            "/health/live",
            "/metrics",
            "/users/7/avatar",
        ] {
            assert!(all.matches(path), "{path}");
        }
        for path in [
            "/",
            "/static",
            "/metrics/x",
            "/users/7",
            "/users/7/avatar/x",
            "*",
            "",
        ] {
            assert!(!all.matches(path), "{path}");
        }
    }

    #[test]
    fn a_label_says_what_can_be_said_without_the_path() {
        let all = exclusions(&["/static/{*p}", "/metrics"]);
        for (label, excluded) in [
            ("/static/{*path}", Excluded::Always),
            ("/static/{file}", Excluded::Always),
            ("/metrics", Excluded::Always),
            ("/users/{id}", Excluded::Never),
            ("/staticfiles/{id}", Excluded::Never),
            ("/{*anything}", Excluded::ByPath),
            ("/{section}/{id}", Excluded::ByPath),
            ("/s{rest}", Excluded::ByPath),
        ] {
            assert_eq!(all.of_route(label), excluded, "{label}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_an_error_that_names_it() {
        for pattern in ["", "static", "/a/{", "/a/{*rest}/b", "/a/{}"] {
            let error = Exclusions::with(None, ["/fine", pattern]).unwrap_err();
            assert_eq!(error.pattern(), pattern);
            assert!(
                error.to_string().contains(&format!("{pattern:?}")),
                "{error}"
            );
        }
    }

    #[test]
    fn patterns_add_up_and_may_overlap() {
        let first = exclusions(&["/a", "/b", "/u/{id}"]);
        let all = Exclusions::with(Some(&first), ["/b", "/c", "/u/{name}", "/u/{*all}"]).unwrap();
        let paths = ["/a", "/b", "/c", "/u/7", "/u/7/8"];
        assert!(paths.iter().all(|path| all.matches(path)));
        assert!(!first.matches("/c"));
    }
}
