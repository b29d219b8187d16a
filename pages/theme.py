"""The Gradio theme, light and dark, and the paths of style sheet, script and icon."""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base, Color, LocalFont, sizes

STYLE_SHEET = Path(__file__).with_name("style.css")
WIDGETS_SCRIPT = Path(__file__).with_name("widgets.js")
FAVICON = Path(__file__).with_name("favicon.svg")

# Verdigris, and grays with a green tint.
_ACCENT = Color(
    name="verdigris",
    c50="#eefaf7",
    c100="#d3f2eb",
    c200="#a9e4d8",
    c300="#74cfc0",
    c400="#42b3a4",
    c500="#24978a",
    c600="#177a71",
    c700="#15625c",
    c800="#154e4a",
    c900="#14413e",
    c950="#062624",
)
_GRAY = Color(
    name="slate_green",
    c50="#f6f8f7",
    c100="#edf1ef",
    c200="#dde4e1",
    c300="#c2ccc8",
    c400="#94a19c",
    c500="#687672",
    c600="#4f5c58",
    c700="#3d4845",
    c800="#262f2d",
    c900="#171d1c",
    c950="#0e1312",
)


def studio_theme() -> Base:
    """Build the theme. All colors of the app are defined here or as variables in the style sheet."""
    theme: Base = Base(
        primary_hue=_ACCENT,
        secondary_hue=_ACCENT,
        neutral_hue=_GRAY,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        # Regular and bold only: the semibold fonts of Gradio contain no Latin letters.
        font=[LocalFont("IBM Plex Sans", (400, 700)), "ui-sans-serif", "system-ui", "sans-serif"],
        font_mono=[LocalFont("IBM Plex Mono", (400, 700)), "ui-monospace", "Consolas", "monospace"],
    ).set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_subdued="*neutral_600",
        error_text_color="#a8321f",
        error_text_color_dark="#f09a86",
        error_background_fill="#fdf1ee",
        error_background_fill_dark="#2c1815",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary_dark="*neutral_950",
        border_color_primary_dark="*neutral_800",
        layout_gap="20px",
        form_gap_width="20px",
        section_header_text_size="15px",
        block_background_fill="white",
        block_background_fill_dark="*neutral_900",
        block_border_width="0px",
        block_border_color="*neutral_200",
        block_border_color_dark="*neutral_800",
        block_padding="0",
        block_label_text_color="*neutral_700",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_size="15px",
        block_title_text_weight="700",
        block_info_text_size="14px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_700",
        input_border_color_focus_dark="*primary_400",
        input_radius="6px",
        input_padding="10px 12px",
        input_text_size="15px",
        input_border_width="1px",
        input_shadow_focus="none",
        button_primary_background_fill="*primary_700",
        button_primary_background_fill_hover="*primary_800",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color_dark="*neutral_950",
        button_primary_border_color="transparent",
        button_secondary_background_fill="white",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_secondary_text_color="*neutral_900",
        button_secondary_text_color_dark="*neutral_100",
        button_border_width="1px",
        button_large_radius="*radius_lg",
        button_medium_radius="*radius_lg",
        button_small_radius="*radius_lg",
        button_large_text_weight="700",
        checkbox_border_color="*neutral_400",
        checkbox_border_color_dark="*neutral_600",
        checkbox_background_color_selected="*primary_700",
        checkbox_background_color_selected_dark="*primary_400",
        checkbox_label_border_color_hover="*neutral_400",
        checkbox_label_border_color_hover_dark="*neutral_400",
        checkbox_label_background_fill="transparent",
        checkbox_label_background_fill_dark="transparent",
        slider_color="*primary_700",
        slider_color_dark="*primary_400",
        panel_background_fill="transparent",
        link_text_color="*primary_700",
        link_text_color_dark="*primary_300",
    )
    return theme
