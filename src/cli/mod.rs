//! One file a verb; `render` alone prints.
