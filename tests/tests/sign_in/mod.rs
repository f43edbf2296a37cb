//! People signing in: with a browser, at devices' own hosts, and from the command line.

mod certified;
mod code_flow;
mod command_line;
mod device_host;
mod hostile_answers;
mod roots;
mod scene;
