"""First schema.

Revision ID: 0001
Revises: nothing
"""

import sqlalchemy as sa
from alembic import op

from autoprune.store.tables import Utc

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Bring the schema from nothing to 0001."""
    op.create_table(
        "ap_cost_table",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("hardware_digest", sa.String(length=80), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("workload_digest", sa.String(length=80), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ap_cost_table"),
    )
    op.create_index("ix_ap_cost_table_place", "ap_cost_table", ["hardware_digest", "model_digest", "workload_digest"])
    op.create_table(
        "ap_hardware",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("described", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ap_hardware"),
    )
    op.create_table(
        "ap_model",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("family", sa.Text(), nullable=True),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ap_model"),
    )
    op.create_index("ix_ap_model_name", "ap_model", ["name"])
    op.create_table(
        "ap_policy",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("described", sa.Text(), nullable=False),
        sa.Column("policy", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ap_policy"),
    )
    op.create_table(
        "ap_profile",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("task_digest", sa.String(length=80), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_ap_profile"),
    )
    op.create_index("ix_ap_profile_place", "ap_profile", ["model_digest", "task_digest"])
    op.create_table(
        "ap_table",
        sa.Column("key", sa.String(length=80), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_ap_table"),
    )
    op.create_table(
        "ap_task",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ap_task"),
    )
    op.create_index("ix_ap_task_name", "ap_task", ["name"])
    op.create_table(
        "ap_workload",
        sa.Column("digest", sa.String(length=80), nullable=False),
        sa.Column("described", sa.Text(), nullable=False),
        sa.Column("facts", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.PrimaryKeyConstraint("digest", name="pk_ap_workload"),
    )
    op.create_table(
        "ap_study",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("search_key", sa.String(length=80), nullable=False),
        sa.Column("status", sa.String(length=32), nullable=False),
        sa.Column("task_digest", sa.String(length=80), nullable=False),
        sa.Column("model_digest", sa.String(length=80), nullable=False),
        sa.Column("workload_digest", sa.String(length=80), nullable=False),
        sa.Column("hardware_digest", sa.String(length=80), nullable=False),
        sa.Column("budget", sa.JSON(), nullable=False),
        sa.Column("config", sa.JSON(), nullable=False),
        sa.Column("versions", sa.JSON(), nullable=False),
        sa.Column("result", sa.JSON(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.Column("updated_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["hardware_digest"], ["ap_hardware.digest"], name="fk_ap_study_hardware_digest"),
        sa.ForeignKeyConstraint(["model_digest"], ["ap_model.digest"], name="fk_ap_study_model_digest"),
        sa.ForeignKeyConstraint(["task_digest"], ["ap_task.digest"], name="fk_ap_study_task_digest"),
        sa.ForeignKeyConstraint(["workload_digest"], ["ap_workload.digest"], name="fk_ap_study_workload_digest"),
        sa.PrimaryKeyConstraint("id", name="pk_ap_study"),
        sa.UniqueConstraint("name", name="uq_ap_study_name"),
    )
    op.create_index("ix_ap_study_model_workload", "ap_study", ["model_digest", "workload_digest"])
    op.create_index("ix_ap_study_search_key", "ap_study", ["search_key"])
    op.create_table(
        "ap_evaluation",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("policy_digest", sa.String(length=80), nullable=False),
        sa.Column("n_examples", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("score_drop", sa.Double(), nullable=True),
        sa.Column("drop_lo", sa.Double(), nullable=True),
        sa.Column("drop_hi", sa.Double(), nullable=True),
        sa.Column("agreement", sa.Double(), nullable=True),
        sa.Column("kl", sa.Double(), nullable=True),
        sa.Column("seconds", sa.Double(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["policy_digest"], ["ap_policy.digest"], name="fk_ap_evaluation_policy_digest"),
        sa.ForeignKeyConstraint(["study_id"], ["ap_study.id"], name="fk_ap_evaluation_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_ap_evaluation"),
    )
    op.create_index("ix_ap_evaluation_policy_digest", "ap_evaluation", ["policy_digest"])
    op.create_index("ix_ap_evaluation_study_trial", "ap_evaluation", ["study_id", "trial"])
    op.create_table(
        "ap_front",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("why", sa.Text(), nullable=False),
        sa.Column("hypervolume", sa.Double(), nullable=True),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["study_id"], ["ap_study.id"], name="fk_ap_front_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_ap_front"),
    )
    op.create_index("ix_ap_front_study_kind", "ap_front", ["study_id", "kind"])
    op.create_table(
        "ap_measurement",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("policy_digest", sa.String(length=80), nullable=False),
        sa.Column("kind", sa.String(length=16), nullable=False),
        sa.Column("statistic", sa.String(length=8), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("ratio", sa.Double(), nullable=True),
        sa.Column("ratio_lo", sa.Double(), nullable=True),
        sa.Column("ratio_hi", sa.Double(), nullable=True),
        sa.Column("stats", sa.JSON(), nullable=False),
        sa.Column("flops", sa.Double(), nullable=True),
        sa.Column("flops_ratio", sa.Double(), nullable=True),
        sa.Column("memory", sa.Double(), nullable=True),
        sa.Column("end_to_end_ms", sa.Double(), nullable=True),
        sa.Column("noisy", sa.Boolean(), nullable=False),
        sa.Column("extra", sa.JSON(), nullable=False),
        sa.Column("created_at", Utc(), nullable=False),
        sa.ForeignKeyConstraint(["policy_digest"], ["ap_policy.digest"], name="fk_ap_measurement_policy_digest"),
        sa.ForeignKeyConstraint(["study_id"], ["ap_study.id"], name="fk_ap_measurement_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name="pk_ap_measurement"),
    )
    op.create_index("ix_ap_measurement_policy_digest", "ap_measurement", ["policy_digest"])
    op.create_index("ix_ap_measurement_study_trial", "ap_measurement", ["study_id", "trial"])
    op.create_table(
        "ap_point",
        sa.Column("study_id", sa.Integer(), nullable=False),
        sa.Column("trial", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("statistic", sa.String(length=8), nullable=False),
        sa.Column("policy_digest", sa.String(length=80), nullable=False),
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=False),
        sa.Column("latency_hi_ms", sa.Double(), nullable=False),
        sa.Column("score", sa.Double(), nullable=False),
        sa.Column("candidate", sa.Boolean(), nullable=False),
        sa.ForeignKeyConstraint(["policy_digest"], ["ap_policy.digest"], name="fk_ap_point_policy_digest"),
        sa.ForeignKeyConstraint(["study_id"], ["ap_study.id"], name="fk_ap_point_study_id", ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("study_id", "trial", name="pk_ap_point"),
    )
    op.create_index(
        "ix_ap_point_candidate",
        "ap_point",
        ["study_id", "statistic", "latency_ms", "latency_hi_ms", "score", "trial"],
        sqlite_where=sa.text("candidate = 1"),
        postgresql_where=sa.text("candidate"),
    )
    op.create_index("ix_ap_point_policy_digest", "ap_point", ["policy_digest"])
    op.create_table(
        "ap_evaluation_samples",
        sa.Column("evaluation_id", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["evaluation_id"], ["ap_evaluation.id"], name="fk_ap_evaluation_samples_evaluation_id", ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("evaluation_id", name="pk_ap_evaluation_samples"),
    )
    op.create_table(
        "ap_front_member",
        sa.Column("front_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("trial", sa.Integer(), nullable=True),
        sa.Column("policy_digest", sa.String(length=80), nullable=False),
        sa.Column("latency_ms", sa.Double(), nullable=True),
        sa.Column("score", sa.Double(), nullable=True),
        sa.Column("tie", sa.Boolean(), nullable=False),
        sa.Column("row", sa.JSON(), nullable=False),
        sa.ForeignKeyConstraint(["front_id"], ["ap_front.id"], name="fk_ap_front_member_front_id", ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["policy_digest"], ["ap_policy.digest"], name="fk_ap_front_member_policy_digest"),
        sa.PrimaryKeyConstraint("front_id", "position", name="pk_ap_front_member"),
    )
    op.create_index("ix_ap_front_member_policy_digest", "ap_front_member", ["policy_digest"])
    op.create_table(
        "ap_measurement_samples",
        sa.Column("measurement_id", sa.Integer(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["measurement_id"],
            ["ap_measurement.id"],
            name="fk_ap_measurement_samples_measurement_id",
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("measurement_id", name="pk_ap_measurement_samples"),
    )
