//! `cargo bench -p perf-benches --bench metrics`

fn main() {
    perf_benches::criterion_main(perf_benches::metrics::groups);
}
