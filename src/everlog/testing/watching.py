"""What is tidied up after this process when it ends without doing so itself, by SIGKILL for instance."""

import subprocess


def watch(script: str, *arguments: str) -> "subprocess.Popen[bytes]":
    """Run a shell script that begins with `read -r _`: that reads until our end of the pipe closes. Kill it otherwise.

    Not PR_SET_PDEATHSIG: it is Linux's alone, and fires when the thread that started a child ends.
    """
    return subprocess.Popen(
        ["sh", "-c", script, "everlog-watch", *arguments],
        cwd="/",
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
