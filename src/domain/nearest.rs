//! Which of some known texts somebody may have meant who wrote another one.

/// Longer texts are not compared: nobody has mistyped those.
const MAX_LENGTH: usize = 100;

/// The known texts that differ least, the nearest first: by letter case alone, or by so few letters that it may be a slip.
pub(super) fn of<'a>(text: &str, known: &[&'a str], count: usize) -> Vec<&'a str> {
    let text = fold(text);
    if text.len() > MAX_LENGTH {
        return vec![];
    }
    let most = 1 + text.len() / 5;
    let mut near: Vec<_> = known
        .iter()
        .filter_map(|known| {
            let folded = fold(known);
            (folded.len().abs_diff(text.len()) <= most).then(|| (distance(&text, &folded), *known))
        })
        .filter(|(distance, _)| *distance <= most)
        .collect();
    near.sort_by_key(|(distance, _)| *distance);
    near.into_iter().take(count).map(|(_, known)| known).collect()
}

fn fold(text: &str) -> Vec<char> {
    text.trim().chars().flat_map(char::to_lowercase).collect()
}

/// How many letters have to be changed, added or taken away (Levenshtein).
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
    fn slips_and_other_letter_case_are_near_and_other_words_are_not() {
        let known = ["Retail", "SME", "Corporate", "Retail Plus"];
        assert_eq!(of("retail", &known, 3), ["Retail"]);
        assert_eq!(of("Reta11", &known, 3), ["Retail"]);
        assert_eq!(of("Corp0rate", &known, 3), ["Corporate"]);
        assert_eq!(of("sme ", &known, 3), ["SME"]);
        assert_eq!(of("Wholesale", &known, 3), [] as [&str; 0]);
        assert_eq!(of(&"x".repeat(1000), &known, 3), [] as [&str; 0]);
    }
}
