//! `cargo bench -p perf-benches --bench batch`

fn main() {
    perf_benches::criterion_main(perf_benches::batch::groups);
}
