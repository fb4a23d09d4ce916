"""Validates a document against the package's JSON Schema files and names the place that does not conform."""

from __future__ import annotations

from ninetailed_wsgi.api.validation.schemas import schemas
from ninetailed_wsgi.errors import InvalidData


def assert_conforms(document: object, schema: str) -> None:
    """Check that a document is valid against a schema.

    Args:
        document: parsed JSON, such as the whole answer of ``POST /profiles``.
        schema: the name of a file in ``schemas/`` without ``.schema.json``, such as ``profile-response``.

    Raises:
        AssertionError: the document is invalid; one line for each place, such as
            ``data.profile.location.city: found null, expected a string``.
        ValueError: there is no schema of that name; the message lists the existing ones.
    """
    compiled = schemas()
    if schema not in compiled.documents:
        raise ValueError(f"found the name {schema!r}, expected one of {', '.join(compiled.documents)}")
    try:
        compiled.check(schema, document)
    except InvalidData as invalid:
        raise AssertionError("\n  ".join([f"the document is not a valid {schema}:", *invalid.problems])) from None
