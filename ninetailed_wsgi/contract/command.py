"""The command ``ninetailed-wsgi contract``: what it prints and how it ends."""

from __future__ import annotations

import contextlib
import secrets
import signal
from argparse import Namespace
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from ninetailed_wsgi.contract import report
from ninetailed_wsgi.contract.access import access_cases
from ninetailed_wsgi.contract.cases import Case, load_cases
from ninetailed_wsgi.contract.run import CaseResult, CaseRun, claims_of
from ninetailed_wsgi.contract.target import NoAnswer, Target, prefix
from ninetailed_wsgi.operations.terminal import in_line, unescaped

BREACH, WRONG_USAGE, INTERRUPTED = 1, 2, 130


def run(options: Namespace, out: TextIO, err: TextIO) -> int:
    """Run every case that applies to the server; 0 when all passed, 1 after a breach, 2 when none could be run."""
    refusal = "ninetailed-wsgi contract:"
    try:
        send = Target(options.base_url, options.timeout)
    except ValueError as error:
        err.write(f"{refusal} --base-url: {error}\n")
        return WRONG_USAGE
    cases = access_cases() if options.key else load_cases()
    with _stoppable():
        try:
            claims = claims_of(send, options.key or "") if options.claims is None else options.claims
            path = prefix(options.organization, options.environment, options.routes)
            mark = f"contract-{secrets.token_hex(6)}"
            at = CaseRun(send, path, claims, mark, options.key or "", options.origin)
            at.reach()
        except NoAnswer as error:
            err.write(in_line(f"{refusal} cannot test {options.base_url}: {error}") + "\n")
            return WRONG_USAGE
        except KeyboardInterrupt:
            return INTERRUPTED
        out.write(f"{len(cases)} cases against {options.base_url}, {options.organization}/{options.environment}")
        out.write(in_line(f", which claims {', '.join(claims) or 'nothing besides'}") + "\n")
        results: list[CaseResult] = []
        try:
            interrupted = _run_all(at, cases, results, out)
        finally:  # even if the output is no longer read
            leftovers = _cleaned_up(at)
    summary = report.Summary(
        options.base_url, options.organization, options.environment, claims, results, at.deleted, leftovers, interrupted
    )
    return _tell(summary, options.report, out, err)


def _run_all(at: CaseRun, cases: Sequence[Case], results: list[CaseResult], out: TextIO) -> bool:
    """Run the cases and print each as it ends; return whether that was interrupted."""
    terminal = out.isatty()
    try:
        for number, result in enumerate(at.results(cases), start=1):
            results.append(result)
            unescaped(out).write(report.line(result, number, len(cases), terminal) + "\n")  # all of it is ours
            if result.breach:
                out.writelines(f"      {in_line(line)}\n" for line in report.details(result.breach))
            out.flush()
    except KeyboardInterrupt:
        return True
    return False


def _cleaned_up(at: CaseRun) -> list[str]:
    try:
        return at.clean_up()
    except KeyboardInterrupt:  # a second time: stop at once
        return at.names()


def _tell(summary: report.Summary, files: Sequence[Path], out: TextIO, err: TextIO) -> int:
    """Print the end of a run, write its reports, and give its exit status."""
    results = summary.results
    out.write("\n" + "".join(f"{line}\n" for line in report.table(results)))
    out.write(f"\n{summary.deleted} profiles were made and deleted")
    if summary.leftovers:
        names = ", ".join(summary.leftovers[:5]) + (", ..." if len(summary.leftovers) > 5 else "")
        out.write(f"; {len(summary.leftovers)} could not be deleted: {in_line(names)}")
    out.write("\n")
    failed = bool(breaches := [f"{one.case.area}/{one.case.id}" for one in results if one.outcome == "failed"])
    if failed:
        out.write(f"failed: {', '.join(breaches)}\n")
    if summary.interrupted:
        out.write("stopped before the end\n")
    for file in files:
        try:
            report.write(file, summary)
        except OSError as error:
            err.write(f"ninetailed-wsgi contract: --report {file}: {error.strerror or error}\n")
            failed = True
    return INTERRUPTED if summary.interrupted else BREACH if failed else 0


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    """Treat SIGTERM like Ctrl-C, so that the profiles are deleted."""

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
