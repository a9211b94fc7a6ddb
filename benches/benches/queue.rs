//! `cargo bench -p perf-benches --bench queue`

fn main() {
    perf_benches::criterion_main(perf_benches::queue::groups);
}
