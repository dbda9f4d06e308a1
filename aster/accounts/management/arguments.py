"""What the commands of this app take as arguments."""

from __future__ import annotations

from django.core.management.base import CommandError

from aster.accounts.models import ApiKey, Membership, Organization

KEY_NAME = "Command line"


def find_organization(name: str) -> Organization:
    """The organization with this slug, else with this name. Raises CommandError if there is none, or more than one."""
    if by_slug := Organization.objects.filter(slug=name).first():
        return by_slug
    found = list(Organization.objects.filter(name=name)[:2])
    if len(found) != 1:
        problem = "is not unique: use its slug" if found else "does not exist"
        raise CommandError(f"The organization “{name}” {problem}.")
    return found[0]


def free_key_name(organization: Organization) -> str:
    """A name for a key that was given none: "Command line", "Command line 2", …, so that they can be told apart."""
    taken = set(
        ApiKey.objects.filter(organization=organization, name__startswith=KEY_NAME).values_list("name", flat=True)
    )
    numbered = (f"{KEY_NAME} {number}" for number in range(2, len(taken) + 3))
    return next(name for name in (KEY_NAME, *numbered) if name not in taken)


def find_membership(email: str, organization: Organization) -> Membership:
    """The place of a person in an organization. Raises CommandError if they have none."""
    rows = Membership.objects.select_related("organization", "user").filter(organization=organization)
    membership = rows.filter(user__email__iexact=email).first()
    if membership is None:
        raise CommandError(f"{email} is not a member of {organization.name}.")
    return membership
