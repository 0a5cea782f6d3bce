//! `leadgate completions` and `leadgate man`: files for shells and for `man`, generated from the definition of the command line.

use std::io;
use std::path::{Path, PathBuf};

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::cli::output::print_text;

#[derive(Args)]
pub(crate) struct CompletionsOptions {
    /// The shell that reads the script.
    shell: Shell,
}

#[derive(Args)]
pub(crate) struct ManOptions {
    /// The folder for the pages. It is created if it is missing.
    folder: PathBuf,
}

/// Prints the script of a shell.
pub(crate) fn completions(options: &CompletionsOptions, mut command: Command) {
    let (name, mut script) = (command.get_name().to_owned(), Vec::new());
    clap_complete::generate(options.shell, &mut command, name, &mut script);
    print_text!("{}", String::from_utf8_lossy(&script));
}

/// Writes a page for the program and one for each command.
pub(crate) fn man(options: &ManOptions, command: Command) -> Result<(), String> {
    let (folder, mut command) = (&options.folder, command.disable_help_subcommand(true));
    // Gives the commands their full names.
    command.build();
    std::fs::create_dir_all(folder)
        .and_then(|()| write_pages(&command, folder))
        .map_err(|error| format!("writing manual pages to {} failed: {error}", folder.display()))
}

fn write_pages(command: &Command, folder: &Path) -> io::Result<()> {
    for command in command.get_subcommands() {
        write_pages(command, folder)?;
    }
    let page = Man::new(command.clone()).manual("leadgate");
    page.source(concat!("leadgate ", env!("CARGO_PKG_VERSION")))
        .generate_to(folder)?;
    Ok(())
}
