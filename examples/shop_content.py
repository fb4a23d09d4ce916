"""What the made-up tea shop publishes, as code: the same as its Contentful export, fixtures/spaces/shop.json.

Serve it with ``ninetailed-wsgi serve --content examples.shop_content:content``.
"""

from __future__ import annotations

from ninetailed_wsgi.authoring import (
    all_of,
    any_of,
    audience,
    entry,
    experience,
    from_campaign,
    having,
    located,
    merge_tag,
    on_device,
    performed,
    replacement,
    returning,
    trait,
    variable,
    viewed,
    with_query,
)

HALVES = [0.5, 0.5]

TITLES = {
    "hero": "Tea, taken slowly",
    "hero-summer": "Iced tea season",
    "hero-offer": "Ten percent off your first order",
    "banner": "Free shipping from 50",
    "banner-offer": "Use the code FIRST10",
    "banner-letter": "Thank you for reading our letter",
    "banner-friend": "A friend sent you: tea for two",
    "greeting": "Good to see you, {{name}}",
    "greeting-member": "Welcome back, member",
    "greeting-club": "The tea club is open",
    "greeting-short": "Hello",
    "journal-teaser": "From our journal",
}
"""What each entry says, a baseline or a variant; another site has this in its templates, or in a system for content."""

# Audiences

pricing_visitors = audience(
    viewed("/pricing", operator="contains", at_least=2),
    id="pricing-visitors",
    name="Viewed a pricing page at least twice",
)
cart_abandoners = audience(
    performed("add_to_cart"),
    performed("order_completed", exactly=0),
    id="cart-abandoners",
    name="Put something in the cart and never ordered",
)
big_spenders = audience(
    performed("order_completed", having("total", 100, operator="greaterThan")),
    id="big-spenders",
    name="Ordered for more than 100",
)
members = audience(trait("plan", "member"), id="members", name="Members of the tea club")
phone_visitors = audience(on_device("mobile"), id="phone-visitors", name="On a phone")
newsletter_visitors = audience(
    any_of(
        viewed(None, from_campaign("source", "newsletter")),
        viewed(None, with_query("friend")),
    ),
    id="newsletter-visitors",
    name="Came from the newsletter or a friend",
)
not_used_yet = [
    audience(located(continent="EU"), id="european-visitors", name="In Europe"),
    audience(returning(sessions=2), id="returning-visitors", name="Here for the second time at least"),
    audience(
        viewed("/journal", operator="startsWith", within_days=7),
        id="recent-readers",
        name="Read the journal in the last seven days",
    ),
    audience(trait("email"), id="known-visitors", name="Told us an e-mail address"),
    audience(
        any_of(
            all_of(any_of(trait("plan", "member"), performed("order_completed", at_least=3)), located(city="Vienna"))
        ),
        id="loyal-or-local",
        name="Members or big buyers, in Vienna",
    ),
]

# Experiences

hero_test = experience(
    "hero",
    ["hero-summer"],
    distribution=HALVES,
    metric="order_completed",
    id="hero-test",
    name="Hero: calm or summer picture",
)
pricing_offer = experience(
    "hero",
    ["hero-offer"],
    replacement("banner", ["banner-offer"]),
    audience=pricing_visitors,
    id="pricing-offer",
    name="First order ten percent off",
)
member_greeting = experience(
    "greeting",
    ["greeting-member", "greeting-club"],
    audience=members,
    distribution=[0, 0.5, 0.5],
    kind="personalization",
    sticky=True,
    id="member-greeting",
    name="Greeting for members",
)
quiet_spenders = experience(
    "banner", [None], audience=big_spenders, id="quiet-spenders", name="No banner for big spenders"
)
newsletter_test = experience(
    "banner",
    ["banner-letter", "banner-friend"],
    audience=newsletter_visitors,
    traffic=0.8,
    distribution=[0.34, 0.33, 0.33],
    id="newsletter-test",
    name="Three banners for newsletter readers",
)
checkout_flags = experience(
    None,
    (),
    variable("checkout-button", control="Buy", variants=["Order now"]),
    variable("guest-checkout", control=False, variants=[True]),
    distribution=HALVES,
    id="checkout-flags",
    name="Checkout: button text and guest checkout",
)
free_shipping = experience(
    None,
    (),
    variable("free-shipping-from", control=50, variants=[30]),
    audience=cart_abandoners,
    id="free-shipping",
    name="Lower free shipping for full carts",
)
phone_theme = experience(
    None,
    (),
    variable("theme", control={"density": "wide", "columns": 3}, variants=[{"density": "dense", "columns": 1}]),
    replacement("greeting", ["greeting-short"]),
    audience=phone_visitors,
    id="phone-theme",
    name="Denser theme on phones",
)

content = [
    *not_used_yet,
    hero_test,
    pricing_offer,
    member_greeting,
    quiet_spenders,
    newsletter_test,
    checkout_flags,
    free_shipping,
    phone_theme,
    merge_tag("traits_firstname", name="First name", fallback="friend"),
    merge_tag("location_city", name="City", fallback="your town"),
    merge_tag("traits.company.name", name="Company"),
    merge_tag("session_count", name="Visits", fallback="1"),
    entry("hero", [pricing_offer, hero_test]),
    entry("banner", [quiet_spenders, pricing_offer, newsletter_test]),
    entry("greeting", [member_greeting, phone_theme]),
]
