//! What translates categories: `LabelEncoder`, `CategoryMapper`, `OneHotEncoder`.

use super::attributes::Attributes;
use super::kernel::{Fact, FromNode, Kernel};
use super::linear::args_1_ref;
use super::scalars::{Places, Scalars};
use tract_onnx::tract_hir::internal::*;

/// A table from keys to values.
#[derive(Debug)]
struct Table {
    keys: Places,
    values: Scalars,
    default: Scalars,
}

impl Table {
    fn new(keys: &Scalars, values: Scalars, default: Scalars) -> TractResult<Self> {
        ensure!(keys.len() == values.len(), "{} keys for {} values", keys.len(), values.len());
        ensure!(default.len() == 1, "{} default values instead of one", default.len());
        // Unless it is of the values' kind, taking it would fail.
        values.take(&[None], &default, &[1])?;
        Ok(Self { keys: Places::new(keys), values, default })
    }

    fn fact(&self, input: &Fact) -> TractResult<Fact> {
        ensure!(self.keys.takes(input.dtype), "the input is {:?}, which is not the keys' type", input.dtype);
        Ok(Fact::new(self.values.dtype(), input.shape.iter().cloned()))
    }

    fn run(&self, input: &TValue) -> TractResult<TVec<TValue>> {
        Ok(tvec![self.values.take(&self.keys.find(input)?, &self.default, input.shape())?.into_tvalue()])
    }
}

fn only(inputs: &[Fact]) -> TractResult<&Fact> {
    match inputs {
        [input] => Ok(input),
        _ => bail!("one input is expected, there are {}", inputs.len()),
    }
}

const UNUSED: &str = "_Unused";

/// Versions 1 (`classes_strings`), 2 (typed lists) and 4 (tensors too).
#[derive(Debug)]
pub(super) enum LabelEncoder {
    Typed(Box<OneWay>),
    /// Version 1: strings to their places, or places to strings, by the input's type.
    Classes(Box<BothWays>),
}

#[derive(Debug)]
pub(super) struct OneWay(Table);

impl FromNode for LabelEncoder {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        if let Some(classes) = attributes.list::<String>("classes_strings")? {
            let places = (0..i64::try_from(classes.len())?).collect();
            return Ok(Self::Classes(Box::new(BothWays::new(attributes, classes, places)?)));
        }
        let keys = one_of(attributes, "keys")?;
        let values = one_of(attributes, "values")?;
        let default = match attributes.tensor("default_tensor")? {
            Some(default) => default,
            None => match &values {
                Scalars::Strings(_) => {
                    Scalars::Strings(vec![attributes.text("default_string")?.unwrap_or_else(|| UNUSED.to_owned())])
                }
                Scalars::Ints(..) => Scalars::ints(vec![attributes.int("default_int64")?.unwrap_or(-1)]),
                Scalars::Reals(..) => Scalars::floats(vec![attributes.float("default_float")?.unwrap_or(-0.0)]),
            },
        };
        Ok(Self::Typed(Box::new(OneWay(Table::new(&keys, values, default)?))))
    }
}

/// `keys_strings`, `keys_int64s`, `keys_floats` or `keys_tensor`, and so with values.
fn one_of(attributes: &Attributes<'_>, what: &str) -> TractResult<Scalars> {
    let strings = attributes.list(&format!("{what}_strings"))?.map(Scalars::Strings);
    let ints = attributes.list(&format!("{what}_int64s"))?.map(Scalars::ints);
    let floats = attributes.list(&format!("{what}_floats"))?.map(Scalars::floats);
    let tensor = attributes.tensor(&format!("{what}_tensor"))?;
    let mut given = [strings, ints, floats, tensor].into_iter().flatten();
    match (given.next(), given.next()) {
        (Some(one), None) => Ok(one),
        (None, _) => bail!("no attribute states the {what}"),
        (Some(_), Some(_)) => bail!("more than one attribute states the {what}"),
    }
}

impl Kernel for LabelEncoder {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        match self {
            Self::Typed(table) => Ok(tvec![table.0.fact(only(inputs)?)?]),
            Self::Classes(both) => both.outputs(inputs),
        }
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        match self {
            Self::Typed(table) => table.0.run(args_1_ref(inputs)?),
            Self::Classes(both) => both.run(inputs),
        }
    }
}

/// Strings to integers, or integers to strings, by the input's type.
#[derive(Debug)]
pub(super) struct BothWays {
    to_ints: Table,
    to_strings: Table,
}

impl BothWays {
    fn new(attributes: &Attributes<'_>, strings: Vec<String>, ints: Vec<i64>) -> TractResult<Self> {
        let default_int = attributes.int("default_int64")?.unwrap_or(-1);
        let default_string = attributes.text("default_string")?.unwrap_or_else(|| UNUSED.to_owned());
        let (ints, strings) = (Scalars::ints(ints), Scalars::Strings(strings));
        Ok(Self {
            to_ints: Table::new(&strings, ints.clone(), Scalars::ints(vec![default_int]))?,
            to_strings: Table::new(&ints, strings, Scalars::Strings(vec![default_string]))?,
        })
    }

    fn table(&self, input: DatumType) -> &Table {
        if input == String::datum_type() { &self.to_ints } else { &self.to_strings }
    }
}

impl Kernel for BothWays {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let input = only(inputs)?;
        Ok(tvec![self.table(input.dtype).fact(input)?])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        self.table(input.datum_type()).run(input)
    }
}

#[derive(Debug)]
pub(super) struct CategoryMapper(BothWays);

impl FromNode for CategoryMapper {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let strings = attributes.list("cats_strings")?.ok_or_else(|| attributes.missing("cats_strings"))?;
        let ints = attributes.list("cats_int64s")?.ok_or_else(|| attributes.missing("cats_int64s"))?;
        Ok(Self(BothWays::new(attributes, strings, ints)?))
    }
}

impl Kernel for CategoryMapper {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        self.0.outputs(inputs)
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        self.0.run(inputs)
    }
}

/// A last axis is added, 1 at the category's place. Numbers are cut to integers first.
#[derive(Debug)]
pub(super) struct OneHotEncoder {
    places: Places,
    count: usize,
    /// An unknown category is all zeros; else an error.
    zeros: bool,
}

impl FromNode for OneHotEncoder {
    fn from_node(attributes: &Attributes<'_>) -> TractResult<Self> {
        let categories = match (attributes.list("cats_int64s")?, attributes.list("cats_strings")?) {
            (Some(ints), None) => Scalars::ints(ints),
            (None, Some(strings)) => Scalars::Strings(strings),
            (None, None) => bail!("neither `cats_int64s` nor `cats_strings` is given"),
            (Some(_), Some(_)) => bail!("both `cats_int64s` and `cats_strings` are given"),
        };
        let zeros = attributes.int("zeros")?.unwrap_or(1) != 0;
        Ok(Self { places: Places::new(&categories), count: categories.len(), zeros })
    }
}

impl Kernel for OneHotEncoder {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let input = only(inputs)?;
        ensure!(self.places.takes(input.dtype), "the input is {:?}, which is not the categories' type", input.dtype);
        Ok(tvec![Fact::new(f32::datum_type(), input.shape.iter().cloned().chain([self.count.to_dim()]))])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let input = args_1_ref(inputs)?;
        let found = self.places.find(input)?;
        let mut hot = vec![0_f32; found.len().saturating_mul(self.count)];
        for (place, row) in found.into_iter().zip(hot.chunks_exact_mut(self.count)) {
            match place.and_then(|place| row.get_mut(place)) {
                Some(cell) => *cell = 1.0,
                None if self.zeros => {}
                None => bail!("a category is not one of the {} known, and `zeros` is 0", self.count),
            }
        }
        let shape: Vec<usize> = input.shape().iter().copied().chain([self.count]).collect();
        Ok(tvec![Tensor::from_shape(&shape, &hot)?.into_tvalue()])
    }
}
