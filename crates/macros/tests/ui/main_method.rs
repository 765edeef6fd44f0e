struct Program;

impl Program {
    #[pyo3_await_tokio::main]
    async fn run(&self) {}
}

fn main() {
    // The method is still there.
    drop(Program.run());
}
