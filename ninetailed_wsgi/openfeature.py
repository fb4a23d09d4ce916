"""A provider for `openfeature-sdk` in the same process: flags decided by the service, without HTTP.

Source: spec section 17. Needs the extra ``openfeature``. Only this module imports the SDK.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from openfeature.evaluation_context import EvaluationContext
from openfeature.event import ProviderEventDetails
from openfeature.exception import (
    ErrorCode,
    FlagNotFoundError,
    GeneralError,
    InvalidContextError,
    TypeMismatchError,
)
from openfeature.flag_evaluation import FlagResolutionDetails, Reason
from openfeature.provider import AbstractProvider, Metadata
from openfeature.track import TrackingEventDetails

from ninetailed_wsgi import __version__
from ninetailed_wsgi.core.copies import as_json, copy_of
from ninetailed_wsgi.core.events import ServedComponent
from ninetailed_wsgi.core.flags import Flag, FlagNotFound
from ninetailed_wsgi.core.names import Environment
from ninetailed_wsgi.errors import InvalidData, NinetailedError, SettingsError
from ninetailed_wsgi.operations.logs import failure
from ninetailed_wsgi.operations.watching import Watcher
from ninetailed_wsgi.service.service import ExperienceService
from ninetailed_wsgi.settings import Settings

__all__ = ["NinetailedProvider", "context_of"]

_Value = TypeVar("_Value")
_LIBRARY = {"name": "ninetailed-wsgi openfeature", "version": __version__}
_log = logging.getLogger(__name__)


class NinetailedProvider(AbstractProvider):
    """Decides flags for a visitor by the published experiences of one environment (spec section 17).

    The targeting key is a profile's id or alias; other attributes of the context replace the profile's traits for
    this evaluation. Without a targeting key the caller gets the default, with the reason ``DEFAULT``. Only `track` and
    ``exposures="served"`` store anything.

    Args:
        source: the service of your middleware or app, or settings to create one from; None: the ``NINETAILED_*``
            environment variables.
        organization, environment: whose flags are decided.
        watch_seconds: seconds between two checks of a thread for changed content, from registration until shutdown;
            0: only `observe` checks.
        exposures: ``served``: an evaluation counts as an exposure to the experience that decided, if the visitor has a
            profile, and is written the first time; ``seen``: only what browsers report counts.

    Raises:
        SettingsError: ``exposures`` is neither, or the settings, the content or the data folder cannot be used.

    Example::

        api.set_provider_and_wait(NinetailedProvider(Settings(content="content.json")))
        client.get_boolean_value("new-checkout", False, EvaluationContext(targeting_key=visitor.id))
    """

    def __init__(
        self,
        source: ExperienceService | Settings | None = None,
        *,
        organization: str = "default",
        environment: str = "main",
        watch_seconds: float = 1.0,
        exposures: str = "seen",
    ) -> None:
        super().__init__()
        if exposures not in ("seen", "served"):
            raise SettingsError([f"exposures: found {exposures!r}, expected seen or served"])
        self._counts_served = exposures == "served"
        if isinstance(source, ExperienceService):
            self._service = source
        else:
            self._service = ExperienceService.from_settings(source or Settings.from_env())
        self._environment: Environment = self._service.environment(organization, environment)
        self._watcher = Watcher(self._watch, watch_seconds, "ninetailed-openfeature") if watch_seconds > 0 else None
        self._registered = False
        self._content_version = ""
        self._trouble = ""

    def get_metadata(self) -> Metadata:
        """Return the provider's name."""
        return Metadata(name="ninetailed-wsgi")

    def initialize(self, evaluation_context: EvaluationContext) -> None:
        """Start to look for changed content; called by the SDK when the provider is registered."""
        self._content_version = self._service.content(*self._environment).version
        self._registered = True
        if self._watcher:
            self._watcher.ensure()

    def shutdown(self) -> None:
        """Stop looking for changed content."""
        self._registered = False

    def observe(self) -> None:
        """Tell the SDK what changed since the last check: new content, stale content, a store that cannot serve."""
        catalog = self._service.content(*self._environment)
        if catalog.version != self._content_version:
            self._content_version = catalog.version
            self.emit_provider_configuration_changed(ProviderEventDetails(flags_changed=list(catalog.flags.keys)))
        trouble, message = self._state()
        if trouble == self._trouble:
            return
        self._trouble = trouble
        if trouble == "store":
            self.emit_provider_error(ProviderEventDetails(message=message, error_code=ErrorCode.GENERAL))
        elif trouble == "content":
            self.emit_provider_stale(ProviderEventDetails(message=message))
        else:
            self.emit_provider_ready(ProviderEventDetails())

    def resolve_boolean_details(
        self, flag_key: str, default_value: bool, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[bool]:
        """Decide a flag whose value is true or false."""
        return self._resolve(flag_key, default_value, evaluation_context, _boolean)

    def resolve_string_details(
        self, flag_key: str, default_value: str, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[str]:
        """Decide a flag whose value is text."""
        return self._resolve(flag_key, default_value, evaluation_context, _string)

    def resolve_integer_details(
        self, flag_key: str, default_value: int, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[int]:
        """Decide a flag whose value is a whole number; JSON does not tell 5 from 5.0."""
        return self._resolve(flag_key, default_value, evaluation_context, _integer)

    def resolve_float_details(
        self, flag_key: str, default_value: float, evaluation_context: EvaluationContext | None = None
    ) -> FlagResolutionDetails[float]:
        """Decide a flag whose value is a number."""
        return self._resolve(flag_key, default_value, evaluation_context, _float)

    def resolve_object_details(
        self,
        flag_key: str,
        default_value: Sequence[Any] | Mapping[str, Any],
        evaluation_context: EvaluationContext | None = None,
    ) -> FlagResolutionDetails[Sequence[Any] | Mapping[str, Any]]:
        """Decide a flag whose value is an object or a list."""
        return self._resolve(flag_key, default_value, evaluation_context, _object)

    def track(
        self,
        tracking_event_name: str,
        evaluation_context: EvaluationContext | None = None,
        tracking_event_details: TrackingEventDetails | None = None,
    ) -> None:
        """Store a track event of the visitor that the targeting key names; without a targeting key, do nothing.

        ``value`` and the attributes of the details become its properties. If the event cannot be stored, the log says
        so; the page is not affected.
        """
        try:
            self._track(tracking_event_name, evaluation_context, tracking_event_details)
        except (NinetailedError, InvalidContextError) as error:
            _log.warning("an event was not stored: %s", failure(error))

    def _track(self, name: str, context: EvaluationContext | None, details: TrackingEventDetails | None) -> None:
        target = _target(context)
        if not target:
            return
        properties: dict[str, Any] = {}
        if details is not None:
            properties.update(details.attributes)
            if details.value is not None:
                properties["value"] = details.value
        event = {
            "type": "track",
            "event": name,
            "properties": _json(properties),
            "channel": "server",
            "messageId": str(uuid.uuid4()),
            "context": {"library": _LIBRARY},
        }
        self._service.upsert(self._environment, target, {"events": [event]})

    def _resolve(
        self,
        key: str,
        default: _Value,
        context: EvaluationContext | None,
        convert: Callable[[Any], _Value | None],
    ) -> FlagResolutionDetails[_Value]:
        if self._watcher:
            self._watcher.ensure()  # also in a process that was forked after registration
        target = _target(context)
        if context is None or not target:
            return FlagResolutionDetails(default, reason=Reason.DEFAULT)
        traits = _json(dict(context.attributes))
        try:
            flag = self._service.flags(self._environment, target, traits, key=key)[0]
        except FlagNotFound as error:
            raise FlagNotFoundError(str(error)) from error
        except InvalidData as error:
            raise InvalidContextError(str(error)) from error
        except NinetailedError as error:
            raise GeneralError(str(error)) from error
        if self._counts_served:
            self._expose(target, flag)
        if flag.reason == "UNKNOWN":
            return FlagResolutionDetails(default, reason=Reason.UNKNOWN)
        value = convert(flag.value)
        if value is None:
            raise TypeMismatchError(f"flag {key}: found {_kind(flag.value)}, expected {_kind(default)}")
        return FlagResolutionDetails(
            value, reason=Reason(flag.reason), variant=flag.variant, flag_metadata=dict(flag.metadata)
        )

    def _expose(self, target: str, flag: Flag) -> None:
        """Record that a flag was served; if that fails, the flag is still served."""
        from ninetailed_wsgi.insights.ingestion import expose  # most sites count only browsers' reports

        decided = flag.metadata
        experience = str(decided["experienceId"]) if decided else None
        exposure = ServedComponent(flag.key, experience, int(decided.get("variantIndex", 0)))
        try:
            expose(self._service, self._environment, target, [exposure])
        except NinetailedError as error:
            _log.warning("an exposure was not stored: %s", failure(error))

    def _state(self) -> tuple[str, str]:
        """Return why flags may be out of date, ``store``, ``content`` or an empty text, and a message for a person."""
        try:
            self._service.check()
        except NinetailedError as error:
            return "store", str(error)
        if errors := self._service.state().content_errors:
            return "content", f"{errors} errors in the newest content; the version before it is served"
        return "", ""

    def _watch(self) -> None:
        if self._registered:
            self.observe()


def context_of(id: str, traits: Mapping[str, Any]) -> EvaluationContext:
    """Return the evaluation context of a visitor: the profile's id as targeting key, its traits as attributes."""
    return EvaluationContext(id or None, dict(traits))


def _target(context: EvaluationContext | None) -> str | None:
    """Return the targeting key; raise InvalidContextError if it is not text."""
    target: object = context.targeting_key if context else None
    if target is None or isinstance(target, str):
        return target
    raise InvalidContextError(f"targeting key: found {target!r}, expected text, the id of a profile")


def _json(value: dict[str, Any]) -> dict[str, Any]:
    try:
        plain: dict[str, Any] = as_json(value)
    except (TypeError, ValueError) as error:
        raise InvalidContextError(f"attributes: {error}") from error
    return plain


def _boolean(value: Any) -> bool | None:
    return value if isinstance(value, bool) else None


def _string(value: Any) -> str | None:
    return value if isinstance(value, str) else None


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
        return None
    return int(value)


def _float(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _object(value: Any) -> Sequence[Any] | Mapping[str, Any] | None:
    return copy_of(value) if isinstance(value, dict | list) else None  # all visitors share the content's value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int | float):
        return "a number"
    return "text" if isinstance(value, str) else "an object or list" if isinstance(value, dict | list) else "null"
