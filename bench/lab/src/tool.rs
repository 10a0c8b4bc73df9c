//! Running `ip`, `tc` and `ethtool`: well-kept tools, each failure told with its command.

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Why an external tool did not do its work.
#[derive(Debug, thiserror::Error)]
pub enum ToolError {
    /// It could not be started.
    #[error(
        "cannot run `{command}`: {source}; install it (Debian/Ubuntu: apt-get install iproute2 ethtool)"
    )]
    Start {
        /// The command line.
        command: String,
        /// The operating system's answer.
        source: std::io::Error,
    },
    /// It ran and refused.
    #[error("`{command}` failed ({status}): {stderr}")]
    Refused {
        /// The command line; of a batch also the line at fault.
        command: String,
        /// How it ended.
        status: std::process::ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// Runs `program args…` and returns its standard output.
///
/// # Errors
/// [`ToolError`] naming the command and what it said.
pub fn run(program: &str, args: &[&str]) -> Result<String, ToolError> {
    let command = format!("{program} {}", args.join(" "));
    let output = Command::new(program)
        .args(args)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ToolError::Start {
            command: command.clone(),
            source,
        })?;
    finish(command, &output)
}

/// Feeds `script` to `ip -batch -`, in `namespace` if one is named: one process for many settings.
///
/// # Errors
/// [`ToolError`] naming the line of the script that was refused.
pub(crate) fn ip_batch(namespace: Option<&str>, script: &[String]) -> Result<(), ToolError> {
    let mut args = Vec::new();
    if let Some(name) = namespace {
        args.extend(["-n", name]);
    }
    args.extend(["-batch", "-"]);
    let command = format!("ip {}", args.join(" "));
    let start = |source| ToolError::Start {
        command: command.clone(),
        source,
    };
    let mut child = Command::new("ip")
        .args(&args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(start)?;
    let text = script
        .iter()
        .fold(String::new(), |text, line| text + line + "\n");
    if let Some(mut stdin) = child.stdin.take() {
        // A refused line closes the pipe early; the exit status tells which.
        drop(stdin.write_all(text.as_bytes()));
    }
    let output = child.wait_with_output().map_err(start)?;
    let named = match failed_line(&String::from_utf8_lossy(&output.stderr))
        .and_then(|n| script.get(n - 1))
    {
        Some(line) => format!("{command}` at `{line}"),
        None => command.clone(),
    };
    finish(named, &output).map(drop)
}

/// The 1-based line number in iproute2's "Command failed -:N".
fn failed_line(stderr: &str) -> Option<usize> {
    let at = stderr.find("Command failed -:")?;
    let digits: String = stderr[at + 17..]
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().ok().filter(|n| *n > 0)
}

fn finish(command: String, output: &Output) -> Result<String, ToolError> {
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(ToolError::Refused {
        command,
        status: output.status,
        stderr,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_tool_and_a_refusal_are_told_apart() {
        let missing = run("no-such-tool-anywhere", &["x"])
            .unwrap_err()
            .to_string();
        assert!(
            missing.contains("no-such-tool-anywhere x") && missing.contains("apt-get install"),
            "{missing}"
        );
        let refused = run("sh", &["-c", "echo because >&2; exit 3"])
            .unwrap_err()
            .to_string();
        assert!(
            refused.contains("because") && refused.contains('3'),
            "{refused}"
        );
        assert_eq!(run("sh", &["-c", "echo fine"]).unwrap(), "fine\n");
    }

    #[test]
    fn the_line_of_a_batch_is_found() {
        assert_eq!(
            failed_line("RTNETLINK answers: File exists\nCommand failed -:12\n"),
            Some(12)
        );
        assert_eq!(failed_line("Command failed -:0"), None);
        assert_eq!(failed_line("something else"), None);
    }
}
