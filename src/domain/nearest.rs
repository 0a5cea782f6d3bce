//! Finds the known texts that are most similar to an unknown one, for suggestions.

/// Longer texts are not compared: they are not misspellings.
const MAX_LENGTH: usize = 100;

/// Returns the known texts that are similar, the most similar first. Similar texts differ in case, or in a few letters.
pub(super) fn of<'a>(text: &str, known: &[&'a str], count: usize) -> Vec<&'a str> {
    let text = fold(text);
    if text.len() > MAX_LENGTH {
        return vec![];
    }
    let max_distance = 1 + text.len() / 5;
    let mut similar: Vec<_> = known
        .iter()
        .filter_map(|known| {
            let folded = fold(known);
            (folded.len().abs_diff(text.len()) <= max_distance).then(|| (distance(&text, &folded), *known))
        })
        .filter(|(distance, _)| *distance <= max_distance)
        .collect();
    similar.sort_by_key(|(distance, _)| *distance);
    similar.into_iter().take(count).map(|(_, known)| known).collect()
}

fn fold(text: &str) -> Vec<char> {
    text.trim().chars().flat_map(char::to_lowercase).collect()
}

/// Returns the Levenshtein distance: the number of letters to change, add or remove.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.iter().enumerate() {
        let mut diagonal = i;
        row[0] = i + 1;
        for (j, right) in b.iter().enumerate() {
            let changed = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(diagonal + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn misspellings_are_similar_and_other_words_are_not() {
        let known = ["Retail", "SME", "Corporate", "Retail Plus"];
        assert_eq!(of("retail", &known, 3), ["Retail"]);
        assert_eq!(of("Reta11", &known, 3), ["Retail"]);
        assert_eq!(of("Corp0rate", &known, 3), ["Corporate"]);
        assert_eq!(of("sme ", &known, 3), ["SME"]);
        assert_eq!(of("Wholesale", &known, 3), [] as [&str; 0]);
        assert_eq!(of(&"x".repeat(1000), &known, 3), [] as [&str; 0]);
    }
}
