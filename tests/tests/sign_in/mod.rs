//! People signing in: with a browser, at devices' own hosts, and from the command line.

mod code_flow;
mod hostile_answers;
mod scene;
