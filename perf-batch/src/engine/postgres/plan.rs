//! Which statements carry the rows.

use std::fmt::Write;

use sqlx::postgres::PgTypeInfo;
use sqlx::{Postgres, TypeInfo};

use crate::engine::join;
use crate::engine::sql::{self, Rows};
use crate::engine::unnest::Unnest;
use crate::engine::values::Values;
use crate::engine::{Plan, Wanted};
use crate::pieces::Shape;
use crate::verb::Verb;
use crate::{BulkValues, Column, Path};

use super::{Types, element};

/// The protocol counts parameters in 16 bits.
const BINDS: usize = 65_535;

/// Rows of values in a statement: longer texts only cost the server more to parse.
const ROWS: usize = 256;

/// The plan for Postgres: arrays where every column's type has one, else rows of values.
#[derive(Debug)]
pub struct PostgresPlan {
    pub(super) way: Way,
    pub(super) returns_many: bool,
    pub(super) requests: u64,
}

#[derive(Debug)]
pub(super) enum Way {
    Unnest(Unnest),
    Values {
        values: Values,
        casts: Vec<Cast>,
        /// For several rows that return values.
        many: Option<(Values, Vec<Cast>)>,
    },
}

/// What a placeholder is cast to.
#[derive(Debug, Default)]
pub(super) struct Cast {
    /// Behind the placeholder of every row.
    pub(super) every: String,
    /// Behind that of the first row only: it makes the text differ where the types do, as sqlx's
    /// statement cache goes by the text alone.
    pub(super) first: String,
}

impl Plan for PostgresPlan {
    fn shape(&self) -> Shape {
        match self.way {
            Way::Unnest(_) => Unnest::SHAPE,
            Way::Values { ref values, .. } => values.shape(),
        }
    }

    fn path(&self) -> Path {
        match self.way {
            Way::Unnest(_) => Path::Unnest,
            Way::Values { .. } => Path::Values,
        }
    }

    fn calls(&self) -> bool {
        matches!(self.way, Way::Unnest(_))
    }

    fn returns_many(&self) -> bool {
        self.returns_many
    }

    fn may_mix_up(&self) -> bool {
        true
    }

    fn requests(&self) -> u64 {
        self.requests
    }
}

impl PostgresPlan {
    pub(super) fn new<R: BulkValues<Postgres>>(
        wanted: &Wanted<'_>,
        sample: &R,
        returning: Option<&join::Wanted>,
    ) -> Result<Self, String> {
        let Wanted { table, verb, .. } = *wanted;
        let requests = u64::from(returning.is_some());
        let text = |rows| {
            let mut text = sql::postgres(table, verb, rows);
            if let Some(returning) = returning {
                returning.returning(&mut text.after);
            }
            text
        };
        let many = |rows| match verb {
            Verb::Insert(conflict) => returning?.statement(table, conflict, rows),
            _ => None,
        };
        let columns = table.columns();
        let types = Types::of(sample).types;
        let known = types.len() == columns.len();
        let unfit = types.iter().position(|ty| element(ty).is_none());
        let inserts = matches!(verb, Verb::Insert(_));
        match wanted.path {
            None | Some(Path::Unnest | Path::Copy)
                if known
                    && unfit.is_none()
                    && !(wanted.few && wanted.path.is_none() && inserts) =>
            {
                let many = many(Rows::Table);
                let returns_many = many.is_some();
                let many = many.map(|text| Unnest::new(text, columns, types.clone()));
                let mut unnest = Unnest::new(text(Rows::Table), columns, types);
                if let Some(returning) = returning {
                    unnest = unnest.returning(returning.ty.clone(), many);
                }
                return Ok(Self {
                    way: Way::Unnest(unnest),
                    returns_many,
                    requests,
                });
            }
            Some(Path::Unnest) => {
                let column = unfit.and_then(|at| columns.get(at));
                let name = column.map_or("a column", Column::name);
                return Err(format!(
                    "the path unnest cannot carry {name:?}: its type has no array that is known from the start"
                ));
            }
            None | Some(Path::Values | Path::Copy) => {}
            Some(path) => return Err(format!("there is no path {path} on Postgres")),
        }
        let casts = |inserts| {
            let casts = columns.iter().enumerate();
            let casts = casts.map(|(at, column)| Cast::new(column, types.get(at), inserts));
            casts.collect::<Vec<_>>()
        };
        let values = |text| Values::new(text, columns.len(), BINDS, ROWS, wanted.exact);
        let many = match many(Rows::Values) {
            Some(text) => Some((values(text)?, casts(false))),
            None => None,
        };
        Ok(Self {
            returns_many: many.is_some(),
            way: Way::Values {
                values: values(text(Rows::Values))?,
                casts: casts(inserts),
                many,
            },
            requests,
        })
    }
}

impl Cast {
    /// `inserts`: the server knows the types by the columns that the values go to.
    fn new(column: &Column, ty: Option<&PgTypeInfo>, inserts: bool) -> Self {
        let mut cast = Self::default();
        let name = ty.and_then(|ty| {
            if inserts {
                element(ty)
            } else {
                Some(ty.name())
            }
        });
        if let Some(name) = name.filter(|name| !name.contains('"')) {
            let _ = write!(cast.first, "::{name}");
        }
        if let Some(name) = column.cast() {
            let _ = write!(cast.every, "::{name}");
        }
        cast
    }
}
