"""Describes what a content source contains, for ``ninetailed-wsgi check``."""

from __future__ import annotations

from ninetailed_wsgi.content.compiling import Catalog, ListedExperience
from ninetailed_wsgi.content.live import LiveContent


def report(source: LiveContent) -> list[str]:
    """List the audiences, experiences and merge tags of each environment, then every problem with its reason.

    This also works after `LiveContent.load` raised: then it shows the valid content beside the errors.
    """
    lines: list[str] = []
    catalogs = source.catalogs()
    for environment, catalog in catalogs.items():
        every = environment == "*/*"
        if every and len(catalogs) > 1 and not _catalog_lines(catalog):
            continue
        lines += [f"content of {'every environment' if every else environment} (version {catalog.version})"]
        lines += _catalog_lines(catalog) or ["  no audience, experience or merge tag"]
    lines += [f"{problem.severity}: {problem}" for problem in source.problems()]
    return lines


def _catalog_lines(catalog: Catalog) -> list[str]:
    names = {audience.id: audience.name for audience in catalog.audience_list}
    lines = [f"  audience {audience.id}: {audience.name}" for audience in catalog.audience_list]
    lines += [f"  experience {_experience(experience, names)}" for experience in catalog.experience_list]
    for metric in catalog.metrics.metrics:
        measure = f"property {metric.property} of {metric.event}" if metric.property else metric.event
        direction = "" if metric.direction == "increase" else ", less is better"
        lines.append(f"  metric {metric.id}: {metric.name}, {metric.type} of {measure}{direction}")
    for tag in catalog.merge_tags.values():
        lines.append(f"  merge tag {tag.id}: {tag.name}" + (f', otherwise "{tag.fallback}"' if tag.fallback else ""))
    lines += [f"  entry {id}: {', '.join(experiences)}" for id, experiences in catalog.entry_experiences.items()]
    return lines


def _experience(experience: ListedExperience, names: dict[str, str]) -> str:
    if experience.audience is None:
        audience = "everyone"
    else:
        audience = f"audience {experience.audience} ({names.get(experience.audience, '')})"
    shares = " / ".join(
        f"{share * 100:g} % {f'variant {index}' if index else 'baseline'}"
        for index, share in enumerate(experience.distribution)
    )
    sticky = ", sticky" if experience.sticky else ""
    kind = experience.type.removeprefix("nt_")
    return (
        f"{experience.id}: {experience.name}, {kind} for {audience}, "
        f"traffic {experience.traffic * 100:g} %, distribution {shares}{sticky}"
    )
