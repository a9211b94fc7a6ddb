//! `cargo bench -p perf-benches --bench pool`

fn main() {
    perf_benches::criterion_main(perf_benches::pool::groups);
}
