//! `INSERT .. VALUES (..), (..)` of many rows.

use std::sync::Arc;

use sqlx::error::BoxDynError;

use super::sql::Text;
use crate::pieces::Shape;

/// The most rows that may have a text of their own: one trip for common sizes of batches.
const EXACT: usize = 1_024;

/// The statement's text for each number of rows.
#[derive(Debug)]
pub(super) struct Values {
    text: Text,
    columns: usize,
    shape: Shape,
    texts: Vec<(usize, Arc<str>)>,
}

impl Values {
    /// `binds`: how many the database takes in a statement; `rows`: the most worth sending;
    /// `exact`: a number of rows that may have a text of its own.
    pub(super) fn new(
        text: Text,
        columns: usize,
        binds: usize,
        rows: usize,
        exact: usize,
    ) -> Result<Self, String> {
        let fit = binds / columns.max(1);
        if fit == 0 {
            return Err(format!(
                "its {columns} columns are more than the {binds} values that a statement can take"
            ));
        }
        let shape = Shape {
            max_rows: fit.min(rows),
            powers: true,
            exact: if exact <= fit.min(EXACT) { exact } else { 0 },
        };
        Ok(Self {
            text,
            columns,
            shape,
            texts: Vec::new(),
        })
    }

    pub(super) fn shape(&self) -> Shape {
        self.shape
    }

    #[cfg(feature = "sqlite")]
    pub(super) fn columns(&self) -> usize {
        self.columns
    }

    /// The text for `rows` rows; `placeholder` writes the one for a row and column.
    pub(super) fn sql(
        &mut self,
        rows: usize,
        placeholder: impl FnMut(&mut String, usize, usize),
    ) -> Arc<str> {
        self.build(rows, ", ", placeholder)
    }

    /// The text of a statement for each of `rows` rows.
    #[cfg(feature = "sqlite")]
    pub(super) fn sql_of_each(
        &mut self,
        rows: usize,
        placeholder: impl FnMut(&mut String, usize, usize),
    ) -> Arc<str> {
        let Text { before, after } = &self.text;
        let between = format!("{after}; {before}");
        self.build(rows, &between, placeholder)
    }

    /// `between`: what stands between two rows.
    fn build(
        &mut self,
        rows: usize,
        between: &str,
        mut placeholder: impl FnMut(&mut String, usize, usize),
    ) -> Arc<str> {
        if let Some((_, text)) = self.texts.iter().find(|(of, _)| *of == rows) {
            return Arc::clone(text);
        }
        let Text { before, after } = &self.text;
        let room = before.len() + after.len() + rows * (self.columns * 8 + between.len());
        let mut sql = String::with_capacity(room);
        sql.push_str(before);
        for row in 0..rows {
            if row > 0 {
                sql.push_str(between);
            }
            sql.push('(');
            for column in 0..self.columns {
                if column > 0 {
                    sql.push_str(", ");
                }
                placeholder(&mut sql, row, column);
            }
            sql.push(')');
        }
        sql.push_str(after);
        let text: Arc<str> = sql.into();
        self.texts.push((rows, Arc::clone(&text)));
        text
    }
}

/// Whether a row gave as many values as there are columns.
pub(super) fn expect(given: usize, wanted: usize, columns: usize) -> Result<(), BoxDynError> {
    if given == wanted {
        return Ok(());
    }
    let row = (given + columns).saturating_sub(wanted);
    Err(format!("the row gave {row} values for {columns} columns").into())
}
