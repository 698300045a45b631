//! Says what it finds around itself: variables, arguments, a current folder, stdin, terminals.
use std::io::Read;

weir_guests::handler!(|_, _| {
    use wasip2::cli::{environment, terminal_stderr, terminal_stdin, terminal_stdout};
    println!("variables: {}", environment::get_environment().len());
    println!("arguments: {}", environment::get_arguments().len());
    println!("folder: {:?}", environment::initial_cwd());
    println!("stdin: {:?}", std::io::stdin().read(&mut [0; 10]).map_err(|error| error.kind()));
    let terminals = [
        terminal_stdin::get_terminal_stdin().is_some(),
        terminal_stdout::get_terminal_stdout().is_some(),
        terminal_stderr::get_terminal_stderr().is_some(),
    ];
    println!("terminals: {terminals:?}");
    Ok(())
});
