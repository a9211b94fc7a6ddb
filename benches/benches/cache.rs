//! `cargo bench -p perf-benches --bench cache`

fn main() {
    perf_benches::criterion_main(perf_benches::cache::groups);
}
