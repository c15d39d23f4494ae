"""What only Streamlit needs: state, forms, live charts, run status."""
