"""Recommendation: users, items, and both together, by category."""

from feature_definitions import DeltaTable, Derived, Entity, Feature, Query, Source, WindowedGroup

user = Entity("user", keys={"user_id": "int64"})
item = Entity("item", keys={"item_id": "int64"})
user_item = Entity("user_item", keys={"user_id": "int64", "item_id": "int64"})

views = Source(
    "views",
    DeltaTable("lake/views"),
    columns={"user_id": "int64", "item_id": "int64", "seconds": "int64", "at": "timestamp"},
    event_timestamp="at",
)
items = Source("items", columns={"item_id": "int64", "category": "string"}, shape="static", id=("item_id",))
views_by_category = Source(
    "views_by_category",
    Query(
        "SELECT v.user_id, v.item_id, i.category, v.at FROM views v JOIN items i ON v.item_id = i.item_id WHERE v.seconds > 3",
        sources=(views, items),
        assume_always_known=True,  # of the categories of items
    ),
    columns={"user_id": "int64", "item_id": "int64", "category": "string", "at": "timestamp"},
    event_timestamp="at",
)

interests = WindowedGroup(
    "interests", user, views_by_category, ttl="2d",
    features=(
        Feature("views", "count", windows=("7d", "90d"), by={"category": ("food", "travel", "Home & Garden")}),
        Feature("categories", "top_k", "category", windows=("90d",), k=3),
        Derived("food_trend", "views_food_7d / (views_food_90d / 12)"),
        Derived("favourite", "categories_90d[0]"),
    ),
)  # fmt: skip
popularity = WindowedGroup(
    "popularity", item, views, every="1h", ttl="3h", features=(Feature("viewers", "count_distinct", "user_id", windows=("24h", "7d")),)
)
affinity = WindowedGroup(
    "affinity", user_item, views, ttl="2d",
    features=(Feature("views", "count", windows=("lifetime",)), Feature("seen", "last_n", "seconds", windows=("30d",), k=10)),
)  # fmt: skip
