//! Writes the README of the chart to standard output, from its values.

fn main() -> anyhow::Result<()> {
    print!("{}", flambeau_chart::readme::generate()?);
    Ok(())
}
