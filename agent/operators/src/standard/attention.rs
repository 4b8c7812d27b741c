//! `Attention` (ONNX versions 23 and 24) whose mask lets a query see nothing: its answer is zero. tract's is the mean of all
//! values, or no number.

use super::rewritten::ADDED;
use super::translated::{Translate, Translated};
use super::{Built, unread};
use crate::ml::attributes::Attributes;
use crate::ml::kernel::{Fact, Kernel, operation};
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::tract_hir::internal::*;

pub(super) fn build(context: &ParsingContext<'_>, node: &NodeProto) -> Built {
    let (operator, reads) = unread::build(context, node)?;
    let answers = node.output.first().is_some_and(|name| !name.is_empty());
    if !answers || node.input.get(MASK).is_none_or(String::is_empty) {
        return Ok((operator, reads));
    }
    let attributes = Attributes::new(node);
    let heads = attributes.int("q_num_heads")?.unwrap_or(1);
    let heads = usize::try_from(heads).ok().filter(|heads| *heads > 0);
    let heads = heads.with_context(|| format!("{}: attribute `q_num_heads` is not positive", attributes.title()))?;
    let causal = attributes.int("is_causal")?.unwrap_or(0) != 0;
    Ok((Box::new(Translated(Masked { operator, seen: Seen { heads, causal } })), reads))
}

/// The input that is the mask; the three before it are always there.
const MASK: usize = 3;

#[derive(Debug, Clone)]
struct Masked {
    operator: Box<dyn InferenceOp>,
    seen: Seen,
}

impl Translate for Masked {
    fn operator(&self) -> &dyn InferenceOp {
        self.operator.as_ref()
    }

    fn operator_mut(&mut self) -> &mut dyn InferenceOp {
        self.operator.as_mut()
    }

    fn translate(
        &self,
        source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let mut outputs = self.operator.to_typed(source, node, target, mapping)?;
        let added = *node.inputs.get(MASK).context("no mask")?;
        // A mask that says yes or no was made one that is added; which of its numbers are a no it does not tell.
        let before = source.node(added.node);
        let mask = before.inputs.first().filter(|_| before.op.name() == ADDED).copied().unwrap_or(added);
        let mask = *mapping.get(&mask).context("the mask was not translated")?;
        if let Some(answer) = outputs.first_mut() {
            let seen = operation("Seen", self.seen.clone(), 2);
            let seen = target.wire_node(format!("{}.seen", node.name), seen, &[*answer, mask])?;
            *answer = *seen.first().context("a node without an output")?;
        }
        Ok(outputs)
    }
}

/// The answers, zero for queries that see nothing: inputs are the answers and the mask.
#[derive(Debug, Clone)]
struct Seen {
    /// Where answers have three axes, how many heads lie in the last.
    heads: usize,
    /// Whether a query sees no place after its own.
    causal: bool,
}

impl Kernel for Seen {
    fn outputs(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let [answers, mask] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        ensure!((3..=4).contains(&answers.shape.len()), "answers have {} axes", answers.shape.len());
        ensure!((2..=4).contains(&mask.shape.len()), "the mask has {} axes", mask.shape.len());
        Ok(tvec![answers.clone()])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<TVec<TValue>> {
        let [answers, mask] = inputs else { bail!("two inputs are expected, there are {}", inputs.len()) };
        let blind = self.blind(mask)?;
        if !blind.contains(&true) {
            return Ok(tvec![answers.clone()]);
        }
        // By batch, head and query, as the mask: an axis of one is one for all.
        let of_mask: TVec<usize> =
            std::iter::repeat_n(1, 4 - mask.rank()).chain(mask.shape().iter().copied()).collect();
        let [batches, heads, queries, _] = *of_mask.as_slice() else { bail!("the mask has {} axes", mask.rank()) };
        let mut out = answers.clone().into_tensor();
        let (of_answers, by_query) = match *answers.shape() {
            [_, heads, queries, width] => ([heads, queries, width], false),
            [_, queries, width] => ([self.heads, queries, width / self.heads], true),
            _ => bail!("answers have {} axes", answers.rank()),
        };
        let [all_heads, all_queries, width] = of_answers;
        let place = |row: usize| {
            let (outer, inner) = if by_query { (all_queries, all_heads) } else { (all_heads, all_queries) };
            let (batch, first, second) = (row / (outer * inner), row / inner % outer, row % inner);
            let (head, query) = if by_query { (second, first) } else { (first, second) };
            let one = |at: usize, size: usize| if size == 1 { 0 } else { at };
            (one(batch, batches) * heads + one(head, heads)) * queries + one(query, queries)
        };
        let bytes = width * out.datum_type().size_of();
        for (row, answer) in out.as_bytes_mut().chunks_mut(bytes.max(1)).enumerate() {
            if blind.get(place(row)).copied().unwrap_or(false) {
                answer.fill(0);
            }
        }
        Ok(tvec![out.into_tvalue()])
    }
}

impl Seen {
    /// By row of the mask, whether it lets nothing be seen: not a yes, or nothing but minus infinity to add.
    fn blind(&self, mask: &Tensor) -> TractResult<Vec<bool>> {
        let (queries, keys) = match *mask.shape() {
            [.., queries, keys] => (queries, keys),
            _ => bail!("the mask has {} axes", mask.rank()),
        };
        let sees: Vec<bool> = if mask.datum_type() == bool::datum_type() {
            mask.try_as_plain_ram()?.as_slice::<bool>()?.to_vec()
        } else {
            let added = mask.cast_to::<f32>()?;
            added.try_as_plain_ram()?.as_slice::<f32>()?.iter().map(|added| *added > f32::NEG_INFINITY).collect()
        };
        let last = |row: usize| if self.causal { row % queries.max(1) + 1 } else { keys };
        let rows = sees.chunks(keys.max(1)).enumerate();
        Ok(rows.map(|(row, sees)| !sees.iter().take(last(row)).any(|sees| *sees)).collect())
    }
}
