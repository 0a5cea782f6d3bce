//! Runs the fuzz targets. Those of the library are in `leadgate::fuzzing`.

mod cli;

/// Runs the target of that name.
pub fn run(name: &str, data: &[u8]) {
    match name {
        "import_file" => cli::transfer::import::fuzzing::import_file(data),
        name => leadgate::fuzzing::run(name, data),
    }
}

/// The program of a target.
#[macro_export]
macro_rules! program {
    ($name:literal) => {
        libfuzzer_sys::fuzz_target!(|data: &[u8]| leadgate_fuzz::run($name, data));
    };
}
