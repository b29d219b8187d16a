"""The rules of a public Space, and which tests attack each: a reader starts here."""

from __future__ import annotations

import re

import pytest

from tests.live_app import ROOT

RULES = {
    "1 What one person may read is in nobody else's cache": [
        "attacks/test_tokens.py: test_what_one_may_read_is_nobody_else_s_cache_hit",
        "core/studio/jobs/test_distill.py: test_a_private_teacher_needs_the_token",
        "core/distillation/test_preflight.py: test_a_private_teacher_needs_a_token_and_is_not_cached",
    ],
    "2 The owner's token serves nobody; a user's token is passed on, and neither kept nor shown": [
        "attacks/test_tokens.py: test_the_owner_s_token_opens_nothing_for_strangers",
        "attacks/test_tokens.py: test_the_owner_s_token_is_nowhere_to_be_seen",
        "attacks/test_tokens.py: test_a_refusal_tells_no_token",
        "attacks/test_tokens.py: test_strangers_store_no_token_on_the_space",
        "browser/test_publish.py: test_signing_in_with_a_token",
        "pages/test_publish.py: test_a_token_is_accepted_only_at_this_machine",
        "attacks/test_tokens.py: test_a_token_that_is_typed_where_none_belongs_is_not_kept",
        "attacks/test_browser.py: test_nothing_of_a_model_runs_and_no_token_stays",
        "core/studio/jobs/test_secrets.py: test_a_secret_is_nowhere_on_disk",
        "core/studio/jobs/test_secrets.py: test_secrets_are_not_visible_in_the_process_list",
        "core/studio/jobs/test_secrets.py: test_secrets_in_truncated_lines_are_removed",
    ],
    "3 People are asked for no more rights than are needed": [
        "attacks/test_rules.py: test_no_more_rights_are_asked_for",
    ],
    "4 No code and no pickle of a repository's or an upload's is run": [
        "attacks/test_foreign_code.py: test_a_pickle_is_no_teacher",
        "attacks/test_foreign_code.py: test_a_pickle_is_no_model",
        "attacks/test_foreign_code.py: test_code_of_a_known_kind_is_left_alone",
        "attacks/test_foreign_code.py: test_what_asks_for_code_stays_out",
        "attacks/test_foreign_code.py: test_strangers_have_no_switch_for_code",
        "core/distillation/test_pipeline.py: test_custom_code_from_the_hub_does_not_run_by_default",
        "core/distillation/test_pipeline.py: test_a_custom_module_does_not_run_by_default",
        "core/distillation/test_preflight.py: test_weights_only_as_a_pickle",
    ],
    "5 A teacher is a Hub id": [
        "attacks/test_paths.py: test_a_path_is_no_teacher",
        "attacks/test_paths.py: test_a_path_is_no_model",
        "pages/test_library.py: test_a_folder_is_opened_at_home_and_never_on_a_space",
        "pages/test_explore.py: test_on_a_space_a_teacher_is_a_name_on_the_hub",
        "pages/test_explore.py: test_on_a_space_no_folder_is_opened",
    ],
    "6 Files that are served are files that the app made; no text becomes a path": [
        "attacks/test_paths.py: test_a_path_is_no_upload",
        "attacks/test_paths.py: test_no_file_of_the_server_is_served",
        "attacks/test_paths.py: test_an_upload_stays_where_uploads_go",
        "attacks/test_paths.py: test_a_malicious_archive_is_refused",
        "core/studio/library/test_library.py: test_a_path_out_of_the_archive_is_refused",
        "core/studio/library/test_library.py: test_a_link_or_a_device_is_refused",
        "core/studio/library/test_library.py: test_a_bomb_that_lies_about_its_size_is_cut",
        "core/studio/jobs/test_endings.py: test_messages_contain_no_path_of_the_server",
    ],
    "7 A job and a model are their owner's, whatever is called by whomever": [
        "attacks/test_foreign_jobs.py: test_no_handler_gives_away_or_changes_what_is_another_s",
        "attacks/test_foreign_jobs.py: test_another_s_model_is_none_to_programs",
        "attacks/test_foreign_jobs.py: test_another_s_job_is_none_to_programs",
        "attacks/test_tokens.py: test_nobody_looks_on_at_what_others_do",
        "core/studio/jobs/test_store.py: test_other_owners_have_no_access",
        "core/studio/library/test_library.py: test_another_owners_model_is_the_same_as_none",
        "pages/test_api.py: test_agents_get_tools_that_read",
    ],
    "8 Every limit of spaces.yaml refuses one more, and a stranger's pattern holds nobody up": [
        "attacks/test_limits.py: test_every_limit_is_attacked",
        "attacks/test_limits.py: test_one_more_is_refused",
        "attacks/test_limits.py: test_one_byte_more_is_no_upload",
        "attacks/test_limits.py: test_limits_hold_over_http",
        "attacks/test_rules.py: test_a_slow_pattern_does_not_hold_up_the_app",
        "core/studio/space/test_settings.py: test_teacher_of_one_parameter_too_many",
    ],
    "9 What people write stays text, in HTML and in spreadsheets": [
        "attacks/test_markup.py: test_no_handler_answers_with_markup_of_a_model",
        "attacks/test_markup.py: test_documents_and_queries_are_text",
        "attacks/test_markup.py: test_names_of_files_are_text",
        "attacks/test_markup.py: test_messages_of_errors_are_text",
        "attacks/test_markup.py: test_an_address_is_text",
        "attacks/test_markup.py: test_the_csv_of_a_map_holds_no_formula",
        "attacks/test_markup.py: test_every_csv_goes_the_same_way",
        "attacks/test_browser.py: test_nothing_of_a_model_runs_and_no_token_stays",
        "core/exploration/test_explanation.py: test_cells_are_never_formulas",
    ],
    "10 A job is a process of its own, with a memory cap and a bare environment": [
        "core/studio/jobs/test_endings.py: test_a_worker_that_dies_is_a_failed_job_with_its_log",
        "core/studio/jobs/test_endings.py: test_a_worker_is_limited_in_memory",
        "core/studio/jobs/test_secrets.py: test_secrets_are_not_visible_in_the_process_list",
        "attacks/test_limits.py: test_one_more_is_refused",
    ],
}


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_attacked(rule: str) -> None:
    for entry in RULES[rule]:
        path, _, name = entry.partition(": ")
        assert re.search(rf"^def {name}\(", (ROOT / "tests" / path).read_text(encoding="utf-8"), re.MULTILINE), entry
    assert len(RULES) == 10


def test_no_more_rights_are_asked_for() -> None:
    from m2v_core.studio.space.settings import load_settings

    # Beside them `gated-repos` would be fitting; what writes to all repositories would not.
    assert set(load_settings().oauth_scopes) <= {"contribute-repos", "gated-repos"}


def test_a_slow_pattern_does_not_hold_up_the_app(monkeypatch: pytest.MonkeyPatch) -> None:
    from pages import distill
    from pages.components.distill_settings import DEFAULTS
    from pages.components.preflight_card import Checked

    planned = []
    monkeypatch.setattr(distill, "preflight", lambda *given, **_: planned.append(given[6]) or Checked(""))
    given = ("a/b", "output", "paste", "", None, None, "auto", "", "256", "float16", "")
    monkeypatch.setenv("SPACE_ID", "someone/m2v-studio")
    distill.check(*given, r"((\w+)+)+!", "fast", "", "auto", "auto", None, None)
    distill.check(*given, DEFAULTS["remove_pattern"], "fast", "", "auto", "auto", None, None)
    assert planned == [None, DEFAULTS["remove_pattern"]]
