//! Mistakes in the attributes are compile errors that say what to do.

// Here and not in perf-batch, so that they are compiled without sqlx and its databases.
#[test]
fn mistakes_are_clear_compile_errors() {
    let cases = trybuild::TestCases::new();
    cases.compile_fail("tests/ui/*.rs");
}
